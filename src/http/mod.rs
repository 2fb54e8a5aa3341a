//! Bytes to requests, responses to bytes, and the frames of Server-Sent Events. Pure: no socket, no clock.
