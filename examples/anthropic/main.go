// Anthropic calls Claude with Anthropic's client, on bedrock-runtime or, with
// -mantle, on bedrock-mantle.
//
//	go run ./anthropic -region us-east-1 -model us.anthropic.claude-sonnet-4-5-20250929-v1:0
//	go run ./anthropic -region us-east-1 -model anthropic.claude-haiku-4-5 -mantle -stream
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/bedrock"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/bedrocktoken/bedrocktoken"
)

func main() {
	region := flag.String("region", "", "AWS region; by default that of the environment or the profile")
	model := flag.String("model", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "in place of the region's")
	mantle := flag.Bool("mantle", false, "use bedrock-mantle")
	stream := flag.Bool("stream", false, "stream the answer")
	flag.Parse()

	ctx := context.Background()
	p, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	var messages anthropic.MessageService
	if *mantle {
		baseURL := cmp.Or(*endpoint, "https://bedrock-mantle."+p.Region()+".api.aws/anthropic")
		messages, err = newMantleClient(ctx, p, baseURL, nil)
	} else {
		baseURL := cmp.Or(*endpoint, "https://bedrock-runtime."+p.Region()+".amazonaws.com")
		messages, err = newRuntimeClient(ctx, p, baseURL, nil)
	}
	if err != nil {
		log.Fatal(err)
	}
	call := create
	if *stream {
		call = createStream
	}
	if err := call(ctx, messages, *model, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func newRuntimeClient(ctx context.Context, p *bedrocktoken.Provider, baseURL string, base http.RoundTripper) (anthropic.MessageService, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(p.Region()))
	if err != nil {
		return anthropic.MessageService{}, err
	}
	cfg.BearerAuthTokenProvider = p
	// Without it, the credentials in cfg sign the requests with SigV4.
	cfg.AuthSchemePreference = []string{"httpBearerAuth"}
	client := anthropic.NewClient(
		bedrock.WithConfig(cfg),
		option.WithBaseURL(baseURL),
		// AWS_BEARER_TOKEN_BEDROCK overrides cfg, and the transport overrides that.
		option.WithHTTPClient(&http.Client{Transport: p.Transport(base)}),
	)
	return client.Messages, nil
}

func newMantleClient(ctx context.Context, p *bedrocktoken.Provider, baseURL string, base http.RoundTripper) (anthropic.MessageService, error) {
	client, err := bedrock.NewMantleClient(ctx,
		// The client can authenticate with a fixed key only; the transport does it.
		bedrock.MantleClientConfig{BaseURL: baseURL, SkipAuth: true},
		option.WithHTTPClient(&http.Client{Transport: p.Transport(base)}),
	)
	if err != nil {
		return anthropic.MessageService{}, err
	}
	return client.Messages, nil
}

func create(ctx context.Context, messages anthropic.MessageService, model string, w io.Writer) error {
	message, err := messages.New(ctx, params(model))
	if err != nil {
		return err
	}
	for _, block := range message.Content {
		fmt.Fprint(w, block.Text)
	}
	fmt.Fprintln(w)
	return nil
}

func createStream(ctx context.Context, messages anthropic.MessageService, model string, w io.Writer) error {
	stream := messages.NewStreaming(ctx, params(model))
	defer stream.Close()
	for stream.Next() {
		if event := stream.Current(); event.Type == "content_block_delta" {
			fmt.Fprint(w, event.Delta.Text)
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

func params(model string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model:     model,
		MaxTokens: 256,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Say hello in one sentence."))},
	}
}
