/** The shared worker: a hub that all tabs of a browser attach to. */
import { Hub } from './hub.js';

const hub = new Hub();
self.onconnect = ({ ports: [port] }) => hub.attach(port);
