"use strict";
// The common part of the scripts for libraries from npm; ../script.py describes their argument and their reports.

const fs = require("node:fs");
const path = require("node:path");

const LIFETIME_MS = 60_000; // after which a script ends
const PAUSE_MS = 50; // between two attempts

function planFromArguments() {
  setTimeout(() => process.exit(124), LIFETIME_MS).unref();
  return JSON.parse(process.argv[2]);
}

function reportStep(step, fields = {}) {
  process.stdout.write(JSON.stringify({ step, at: Date.now() / 1000, ...fields }) + "\n");
}

function reportLibrary(name) {
  const description = path.join(__dirname, "node_modules", ...name.split("/"), "package.json");
  reportStep("library", { version: JSON.parse(fs.readFileSync(description)).version });
}

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

// Options of node:tls, or undefined without TLS.
function encryption(plan) {
  if (plan.authority === null) return undefined;
  return {
    ca: fs.readFileSync(plan.authority),
    cert: fs.readFileSync(plan.certificate),
    key: fs.readFileSync(plan.private_key),
  };
}

const portIn = (info) => Number(/^tcp_port:(\d+)/m.exec(String(info))[1]);
const ascending = (ports) => [...ports].map(Number).sort((one, other) => one - other);

// Writes until a server that is not the old master has taken a value after `received()` became true.
// Exceptions in between are ignored; the next attempt follows.
async function writeOn(write, portOfMaster, received, old) {
  for (let number = 2; ; number += 1) {
    await pause();
    try {
      await write(String(number));
      const port = await portOfMaster();
      if (received() && port !== old) return { port, value: String(number) };
    } catch (problem) {
      process.stderr.write(`${problem}\n`);
    }
  }
}

// Waits until `get()` returns the written value, and the port is not the master's.
async function readBack(get, portOfReplica, wanted, master) {
  for (;;) {
    try {
      if ((await get()) === wanted) {
        const port = await portOfReplica();
        if (port !== master) return port;
      }
    } catch (problem) {
      process.stderr.write(`${problem}\n`);
    }
    await pause();
  }
}

module.exports = { planFromArguments, reportStep, reportLibrary, encryption, portIn, ascending, writeOn, readBack };
