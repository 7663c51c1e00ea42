// OpenAI's client for JavaScript by the Responses API: a text, a stream, its own answer sent back, a call, an error.
import OpenAI from "openai";

const [base, text, call] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base, apiKey: "none", maxRetries: 0 });
const asked = [{ role: "system", content: "Say it again." }, { role: "user", content: text }];
const model = "chat";
const answer = await client.responses.create({ model, input: asked });
let streamed = "";
for await (const event of await client.responses.create({ model, input: asked, stream: true })) {
  if (event.type === "response.output_text.delta") streamed += event.delta;
}
const helped = await client.responses.stream({ model, input: asked }).finalResponse();
const again = await client.responses.create({ model, input: [...asked, ...helped.output, { role: "user", content: "two" }] });
const parameters = { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } };
const tools = [{ type: "function", name: "get_weather", parameters, strict: false }];
const { output } = await client.responses.create({ model, input: call, tools, tool_choice: "required" });
let stored = null;
try {
  await client.responses.create({ model, input: text, previous_response_id: "resp_1" });
} catch (error) {
  stored = { kind: error.constructor.name, param: error.param };
}
console.log(JSON.stringify({
  answer: answer.output_text,
  streamed,
  helped: helped.output_text,
  again: again.output_text,
  called: { name: output[0].name, arguments: output[0].arguments },
  stored,
}));
