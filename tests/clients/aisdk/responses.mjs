// Vercel's AI SDK with its provider of OpenAI, which asks by the Responses API: texts, objects, tools, an answer cut off.
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, prompt, call, animal] = process.argv.slice(2);
const model = createOpenAI({ baseURL, apiKey: "none" })("chat");
// Nothing is stored, so that each step sends the whole conversation.
const settings = { model, maxRetries: 0, providerOptions: { openai: { store: false } } };
const get_weather = tool({
  description: "Get the weather of a city for some days.",
  inputSchema: z.object({ city: z.string(), days: z.number().int() }),
  execute: async ({ city, days }) => `${days} days of rain in ${city}`,
});
const { text } = await generateText({ ...settings, prompt });
let streamed = "";
for await (const part of streamText({ ...settings, prompt }).textStream) streamed += part;
const { object } = await generateObject({
  ...settings, prompt: animal, schema: z.object({ name: z.string(), legs: z.number().int() }),
});
const tools = { get_weather };
const whole = await generateText({ ...settings, prompt: call, tools, toolChoice: "auto", stopWhen: stepCountIs(2) });
const calls = await streamText({ ...settings, prompt: call, tools, toolChoice: "required" }).toolCalls;
const [first] = whole.steps;
const cut = await generateText({ ...settings, prompt, maxOutputTokens: 1 });
console.log(JSON.stringify({
  text,
  streamed,
  object,
  inputs: first.toolCalls.map((each) => each.input),
  results: first.toolResults.map((each) => each.output),
  streamedInputs: calls.map((each) => each.input),
  after: whole.text,
  reason: cut.finishReason,
}));
