// Asks once for a whole answer and once for a stream.
import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from "@aws-sdk/client-bedrock-runtime";

const client = new BedrockRuntimeClient({ region: "us-east-1" });
const input = {
  modelId: "openai.gpt-oss-120b-1:0",
  messages: [{ role: "user", content: [{ text: "Say hello." }] }],
};
const whole = await client.send(new ConverseCommand(input));
let streamed = "";
for await (const event of (await client.send(new ConverseStreamCommand(input))).stream) {
  streamed += event.contentBlockDelta?.delta.text ?? "";
}
const answer = whole.output.message.content[0].text;
if (streamed !== answer) {
  throw new Error(`the stream said ${streamed}, the whole answer ${answer}`);
}
console.log(answer);
