// OpenAI's client for JavaScript: a conversation, a stream, its own answer sent back, the older form, models, errors.
import OpenAI from "openai";

const [base, text] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base, apiKey: "none", maxRetries: 0 });
const asked = [
  { role: "system", content: "Say it again." },
  { role: "user", content: text },
];
const model = "chat";
const answer = await client.chat.completions.create({ model, messages: asked });
let streamed = "";
const stream = await client.chat.completions.create({
  model, messages: asked, stream: true, stream_options: { include_usage: true },
});
for await (const part of stream) streamed += part.choices[0]?.delta?.content ?? "";
const helped = await client.chat.completions.stream({ model, messages: asked }).finalMessage();
const messages = [...asked, helped, { role: "user", content: "two" }];
const again = await client.chat.completions.create({ model, messages, tools: [], tool_choice: "none", store: false });
const completed = await client.completions.create({ model, prompt: "abc", logprobs: 1 });
const models = [];
for await (const one of client.models.list()) models.push(one.id);
const refused = async (call) => {
  try {
    await call();
    return null;
  } catch (error) {
    return { kind: error.constructor.name, code: error.code, param: error.param };
  }
};
console.log(JSON.stringify({
  answer: answer.choices[0].message.content,
  streamed,
  helped: helped.content,
  again: again.choices[0].message.content,
  completed: completed.choices[0].text,
  models,
  overflow: await refused(() => client.chat.completions.create({ model, messages: [{ role: "user", content: "x".repeat(20000) }] })),
  hot: await refused(() => client.chat.completions.create({ model, messages: asked, temperature: 3 })),
}));
