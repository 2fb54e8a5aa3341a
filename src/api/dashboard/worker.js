/** The shared worker: a hub to which all tabs of a browser connect. */
import { Hub } from './hub.js';

const hub = new Hub();
self.onconnect = ({ ports: [port] }) => hub.attach(port);
