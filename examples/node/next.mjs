// Numbers from Node.js with nothing but the .proto: node next.mjs [HOST:PORT] [UID]
// A caller that keeps no routing table leaves route_version at 0; any node takes its calls.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address = "127.0.0.1:7420", uid = "42"] = process.argv.slice(2);
const root = fileURLToPath(new URL("../../proto", import.meta.url));
const definition = protoLoader.loadSync("seqsvr/v1/alloc.proto", {
  includeDirs: [root],
  longs: String, // a seq has 64 bits, a JavaScript number 53
});
const { Alloc } = grpc.loadPackageDefinition(definition).seqsvr.v1;
const client = new Alloc(address, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, { deadline: Date.now() + 2000 }, (error, answer) =>
      error ? reject(error) : resolve(answer)),
  );

try {
  console.log("next   ", (await call("GetSeq", { uid })).seq);
  console.log("range  ", (await call("GetSeq", { uid, count: 10 })).seq, "and the 9 after it");
  console.log("batch  ", (await call("BatchGetSeq", { uids: [uid, "7", uid] })).seqs.join(" "));
  const { seq, exact } = await call("GetCurSeq", { uid });
  console.log("current", seq, exact ? "exactly" : "at most");
} catch (error) {
  console.error(grpc.status[error.code], error.details);
  process.exitCode = 1;
} finally {
  client.close();
}
