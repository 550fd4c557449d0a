"use strict";
// ioredis, and its fork iovalkey; both have a failure detector that subscribes to Sentinels.

const script = require("./script");

async function main(plan) {
  const Redis = require(plan.library);
  script.reportLibrary(plan.library);
  const tls = script.encryption(plan);
  const protocolOptions = plan.library === "ioredis" ? { protocol: plan.protocol } : {};
  const open = (options) => {
    const client = new Redis({ ...protocolOptions, ...options });
    client.on("error", (problem) => process.stderr.write(`${problem}\n`));
    return client;
  };
  const watching = { username: plan.sentinel_user ?? undefined, password: plan.sentinel_password ?? undefined };
  const common = {
    sentinels: plan.sentinels.map(([host, port]) => ({ host, port })),
    name: plan.name,
    username: plan.user ?? undefined,
    password: plan.password ?? undefined,
    sentinelUsername: watching.username,
    sentinelPassword: watching.password,
    tls,
    sentinelTLS: tls,
    enableTLSForSentinelMode: tls !== undefined,
  };

  // A detector that receives an event of a new master while its client connects closes that client for good.
  let finished = false;
  let master;
  const openMaster = () => {
    master = open({ ...common, role: "master", failoverDetector: true });
    master.on("end", () => finished || openMaster());
  };
  openMaster();
  let offered = [];
  const replica = open({
    ...common,
    role: "slave",
    preferredSlaves: (slaves) => {
      offered = slaves;
      return slaves[0];
    },
  });
  const portOf = async (client) => script.portIn(await client.info("server"));
  const old = await portOf(master);
  await replica.ping();
  script.reportStep("found", { master: old, replicas: script.ascending(offered.map((each) => each.port)) });

  await master.set(plan.key, "1");
  const get = () => replica.get(plan.key);
  script.reportStep("read", { port: await script.readBack(get, () => portOf(replica), "1", old) });

  const [host, port] = plan.sentinels[0];
  const listener = open({ host, port, ...watching, tls, connectionName: plan.key });
  let received = false;
  listener.on("message", (channel, payload) => {
    received = true;
    script.reportStep("event", { payload });
  });
  await listener.subscribe("+switch-master");
  script.reportStep("ready");

  const write = (value) => master.set(plan.key, value);
  const wrote = await script.writeOn(write, () => portOf(master), () => received, old);
  script.reportStep("wrote", wrote);
  script.reportStep("read again", { port: await script.readBack(get, () => portOf(replica), wrote.value, wrote.port) });
  finished = true;
  for (const client of [master, replica, listener]) client.disconnect();
}

main(script.planFromArguments());
