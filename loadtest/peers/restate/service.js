// A service of three steps that do nothing, for restate-server to run, and its registration with it. Ends when the
// server does, whose child it is.
import * as http2 from "node:http2";
import * as restate from "@restatedev/restate-sdk";

const { ADMIN_PORT, SERVICE_PORT } = process.env;

const three = restate.service({
  name: "three",
  handlers: {
    run: async (ctx) => {
      for (let n = 0; n < 3; n += 1) await ctx.run(`s${n}`, () => n);
      return { done: true };
    },
  },
});

const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(0), 100);

// A log line for each call would be what is measured.
const endpoint = restate.createEndpointHandler({ services: [three], logger: () => {} });
http2.createServer(endpoint).listen(Number(SERVICE_PORT), "127.0.0.1", register);

async function register() {
  const body = JSON.stringify({ uri: `http://127.0.0.1:${SERVICE_PORT}` });
  const call = { method: "POST", headers: { "content-type": "application/json" }, body };
  for (let tries = 0; tries < 300; tries += 1) {
    const answer = await fetch(`http://127.0.0.1:${ADMIN_PORT}/deployments`, call).catch(() => undefined);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  console.error("restate-server takes no deployment");
  process.exit(1);
}
