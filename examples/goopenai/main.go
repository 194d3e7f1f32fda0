// Goopenai calls Bedrock's OpenAI-compatible API with sashabaranov/go-openai. What
// it does for that client does for any other that takes an http.Client.
//
//	go run ./goopenai -region us-east-1 -model openai.gpt-oss-20b-1:0 -stream
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/bedrocktoken/bedrocktoken"
	"github.com/sashabaranov/go-openai"
)

func main() {
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	model := flag.String("model", "openai.gpt-oss-20b-1:0", "`ID` of a model or inference profile")
	endpoint := flag.String("endpoint", "", "base `URL` to use instead of the region's endpoint")
	stream := flag.Bool("stream", false, "stream the answer")
	flag.Parse()

	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	client := newClient(provider, cmp.Or(*endpoint, "https://bedrock-runtime."+provider.Region()+".amazonaws.com/openai/v1"), nil)
	call := chat
	if *stream {
		call = chatStream
	}
	if err := call(ctx, client, *model, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func newClient(provider *bedrocktoken.Provider, baseURL string, base http.RoundTripper) *openai.Client {
	cfg := openai.DefaultConfig("") // no key: the transport sets the header
	cfg.BaseURL = baseURL
	cfg.HTTPClient = &http.Client{Transport: provider.Transport(base)}
	return openai.NewClientWithConfig(cfg)
}

func chat(ctx context.Context, client *openai.Client, model string, w io.Writer) error {
	response, err := client.CreateChatCompletion(ctx, request(model))
	if err != nil {
		return err
	}
	for _, choice := range response.Choices {
		fmt.Fprintln(w, choice.Message.Content)
	}
	return nil
}

func chatStream(ctx context.Context, client *openai.Client, model string, w io.Writer) error {
	stream, err := client.CreateChatCompletionStream(ctx, request(model))
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(w)
			return nil
		}
		if err != nil {
			return err
		}
		for _, choice := range response.Choices {
			fmt.Fprint(w, choice.Delta.Content)
		}
	}
}

func request(model string) openai.ChatCompletionRequest {
	return openai.ChatCompletionRequest{
		Model:    model,
		Messages: []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleUser, Content: "Say hello in one sentence."}},
	}
}
