"use strict";
// ioredis, and iovalkey which was made from it; both have a failure detector that listens to Sentinels.

const script = require("./script");

async function main(plan) {
  const Redis = require(plan.library);
  script.sayLibrary(plan.library);
  const tls = script.encryption(plan);
  const spoken = plan.library === "ioredis" ? { protocol: plan.protocol } : {};
  const open = (options) => {
    const client = new Redis({ ...spoken, ...options });
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

  // A detector that hears of a new master while its client connects anyway closes that client for good.
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
  script.say("found", { master: old, replicas: script.ascending(offered.map((each) => each.port)) });

  await master.set(plan.key, "1");
  const get = () => replica.get(plan.key);
  script.say("read", { port: await script.readBack(get, () => portOf(replica), "1", old) });

  const [host, port] = plan.sentinels[0];
  const listener = open({ host, port, ...watching, tls, connectionName: plan.key });
  let heard = false;
  listener.on("message", (channel, payload) => {
    heard = true;
    script.say("heard", { payload });
  });
  await listener.subscribe("+switch-master");
  script.say("ready");

  const write = (value) => master.set(plan.key, value);
  const wrote = await script.writeOn(write, () => portOf(master), () => heard, old);
  script.say("wrote", wrote);
  script.say("read again", { port: await script.readBack(get, () => portOf(replica), wrote.value, wrote.port) });
  finished = true;
  for (const client of [master, replica, listener]) client.disconnect();
}

main(script.told());
