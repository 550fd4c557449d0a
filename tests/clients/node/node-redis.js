"use strict";
// node-redis: createSentinel, which watches the Sentinels by subscription and by polling.

const { createClient, createSentinel } = require("redis");
const script = require("./script");

async function main(plan) {
  script.reportLibrary("redis");
  const tls = script.encryption(plan);
  const socket = tls === undefined ? {} : { socket: { tls: true, ...tls } };
  const login = (username, password) => ({ username: username ?? undefined, password: password ?? undefined });
  const watching = { ...login(plan.sentinel_user, plan.sentinel_password), ...socket };
  const complain = (problem) => process.stderr.write(`${problem}\n`);

  const group = createSentinel({
    name: plan.name,
    sentinelRootNodes: plan.sentinels.map(([host, port]) => ({ host, port })),
    nodeClientOptions: { ...login(plan.user, plan.password), ...socket },
    sentinelClientOptions: watching,
    RESP: plan.protocol,
    replicaPoolSize: 1,
    scanInterval: 500,
  });
  group.on("error", complain);
  group.on("client-error", complain);
  await group.connect();
  const old = group.getMasterNode().port;
  const replicas = [...group.getReplicaNodes().keys()].map((node) => node.port);
  script.reportStep("found", { master: old, replicas: script.ascending(replicas) });

  const portOf = async (readOnly) => script.portIn(await group.sendCommand(readOnly, ["INFO", "server"]));
  await group.set(plan.key, "1");
  const get = () => group.get(plan.key);
  script.reportStep("read", { port: await script.readBack(get, () => portOf(true), "1", old) });

  const [host, port] = plan.sentinels[0];
  const listener = createClient({
    ...watching,
    socket: { ...watching.socket, host, port },
    RESP: plan.protocol,
    name: plan.key,
  });
  listener.on("error", complain);
  await listener.connect();
  let received = false;
  await listener.subscribe("+switch-master", (payload) => {
    received = true;
    script.reportStep("event", { payload });
  });
  script.reportStep("ready");

  const wrote = await script.writeOn((value) => group.set(plan.key, value), () => portOf(false), () => received, old);
  script.reportStep("wrote", wrote);
  script.reportStep("read again", { port: await script.readBack(get, () => portOf(true), wrote.value, wrote.port) });
  listener.destroy();
  group.destroy();
}

main(script.planFromArguments());
