// node-opcua as the foreign OPC UA stack of the tests. Lines on standard input: "say VALUE AHEAD_S",
// "bad STATUS", "flood VALUE"; each is answered with "ok". A third argument is the folder of its own
// certificates and of those that it trusts (own/certs, trusted/certs).
"use strict";
const path = require("path");
const readline = require("readline");
const services = path.join(__dirname, "..", "..", ".services", "node");
const { createRequire } = require("module");
const load = createRequire(path.join(services, "package.json"));
const { OPCUAServer } = load("node-opcua-server");
const { Variant, DataType } = load("node-opcua-variant");
const { StatusCode, StatusCodes, coerceStatusCode } = load("node-opcua-status-code");
const { OPCUACertificateManager } = load("node-opcua-certificate-manager");
const os = require("os");
const fs = require("fs");

async function main() {
  const port = Number(process.argv[2]);
  const numTags = Number(process.argv[3]);
  const folder = process.argv[4] || fs.mkdtempSync(path.join(os.tmpdir(), "node-opcua-"));
  const manager = new OPCUACertificateManager({ rootFolder: folder, automaticallyAcceptUnknownCertificate: false });
  const server = new OPCUAServer({
    port,
    hostname: "127.0.0.1",
    resourcePath: "/plc",
    serverCertificateManager: manager,
    userManager: { isValidUser: (name, password) => name === "operator" && password === "right" },
    serverInfo: { applicationUri: "urn:tests:server" },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const own = space.registerNamespace("urn:tests:plc");
  const line = own.addObject({ organizedBy: space.rootFolder.objects, browseName: "Line1" });
  const tags = [];
  for (let n = 0; n < numTags; n++) {
    tags.push(
      own.addAnalogDataItem({
        componentOf: line,
        browseName: `Tag${n}`,
        nodeId: `s=Line1.Tag${n}`,
        dataType: "Double",
        engineeringUnitsRange: { low: 0, high: 100 },
        engineeringUnits: { namespaceUri: "http://www.opcfoundation.org/UA/units/un/cefact", unitId: 20529, displayName: "%", description: "percent" },
        value: { dataType: DataType.Double, value: 0 },
      }),
    );
  }
  space.installHistoricalDataNode(tags[0], { maxOnlineValues: 10000 });
  await server.start();
  console.log("ready");
  for await (const line_in of readline.createInterface({ input: process.stdin })) {
    const [verb, word, ahead] = line_in.trim().split(" ");
    if (verb === "say") {
      tags[0].setValueFromSource({ dataType: DataType.Double, value: Number(word) }, StatusCodes.Good, new Date(Date.now() + 1000 * Number(ahead)));
    } else if (verb === "bad") {
      tags[0].setValueFromSource({ dataType: DataType.Double, value: 0 }, coerceStatusCode(parseInt(word, 16)), new Date());
    } else if (verb === "flood") {
      for (const tag of tags) tag.setValueFromSource({ dataType: DataType.Double, value: Number(word) }, StatusCodes.Good, new Date());
    }
    console.log("ok");
  }
  process.exit(0); // nobody is there to say anything
}
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
