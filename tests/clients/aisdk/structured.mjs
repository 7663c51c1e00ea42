// Vercel's AI SDK, as its documentation has it: a text, a stream and an object of a schema.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamText } from "ai";
import { z } from "zod";

const [baseURL, prompt] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "marloop", baseURL, supportsStructuredOutputs: true });
const model = provider("chat");
const settings = { model, prompt, temperature: 0, maxOutputTokens: 60, maxRetries: 0 };
const animal = z.object({ name: z.string().max(12), legs: z.int().min(0).max(8), kind: z.enum(["bird", "fish", "mammal"]) });
const { text } = await generateText(settings);
let streamed = "";
for await (const part of streamText(settings).textStream) streamed += part;
const { object } = await generateObject({ ...settings, schema: animal });
const chosen = await generateObject({ ...settings, output: "enum", enum: ["yes", "no"] });
console.log(JSON.stringify({ text, streamed, object, chosen: chosen.object }));
