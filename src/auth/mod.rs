//! Who may: JWTs, one-time tickets, signed message ids, and browser origins. Pure: `now` and randomness are passed in.
