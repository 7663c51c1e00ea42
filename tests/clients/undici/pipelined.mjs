// undici, Node's HTTP client: what each of forty requests is answered where eight are under way on one connection.
import { Client } from "undici";

const [base, row] = process.argv.slice(2);
const client = new Client(base, { pipelining: 8 });
let connections = 0;
client.on("connect", () => { connections += 1; });
const ask = async (model, body) => {
  const answer = await client.request({
    path: `/predictions/${model}`,
    method: "POST",
    idempotent: true, // else it waits for each answer
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: answer.statusCode, prediction: (await answer.body.json()).prediction };
};
const asked = Array.from({ length: 40 }, (_, i) => (i % 2 ? ask("flights", JSON.parse(row)) : ask("linear", { x: i })));
console.log(JSON.stringify({ answers: await Promise.all(asked), connections }));
await client.close();
