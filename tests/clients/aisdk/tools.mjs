// Tools of Vercel's AI SDK, as its documentation has them: a call that is executed, whole and streamed.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, prompt] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "marloop", baseURL });
const weather = tool({
  description: "Get the weather of a city for some days.",
  inputSchema: z.object({ city: z.string().max(20), days: z.int().min(1).max(9) }),
  execute: async ({ city, days }) => `${days} days of rain in ${city}`,
});
const settings = {
  model: provider("chat"), prompt, temperature: 0, maxOutputTokens: 400, maxRetries: 0,
  tools: { weather }, toolChoice: "required",
};
const whole = await generateText(settings);
const streamed = streamText(settings);
const calls = await streamed.toolCalls;
console.log(JSON.stringify({
  reason: whole.finishReason,
  inputs: whole.toolCalls.map((call) => call.input),
  results: whole.toolResults.map((result) => result.output),
  streamed: calls.map((call) => call.input),
}));
