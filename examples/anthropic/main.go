// Anthropic calls Claude with Anthropic's client: the Messages API of
// bedrock-runtime, that of bedrock-mantle with -mantle, or InvokeModel with
// -invoke.
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
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	model := flag.String("model", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "`ID` of a model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "base `URL` to use instead of the region's endpoint")
	mantle := flag.Bool("mantle", false, "use bedrock-mantle, not bedrock-runtime")
	invoke := flag.Bool("invoke", false, "call InvokeModel, not Messages")
	stream := flag.Bool("stream", false, "stream the answer")
	flag.Parse()

	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	runtime := "https://bedrock-runtime." + provider.Region() + ".amazonaws.com"
	var messages anthropic.MessageService
	switch {
	case *invoke:
		messages, err = newInvokeClient(ctx, provider, cmp.Or(*endpoint, runtime), nil)
	case *mantle:
		baseURL := "https://bedrock-mantle." + provider.Region() + ".api.aws/anthropic"
		messages, err = newClient(ctx, provider, cmp.Or(*endpoint, baseURL), nil)
	default:
		messages, err = newClient(ctx, provider, cmp.Or(*endpoint, runtime+"/anthropic"), nil)
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

// newClient returns a client for the Messages API of an endpoint. It is the
// client's Mantle client, which reaches bedrock-runtime just as well: the base
// URL decides.
func newClient(ctx context.Context, provider *bedrocktoken.Provider, baseURL string, base http.RoundTripper) (anthropic.MessageService, error) {
	client, err := bedrock.NewMantleClient(ctx,
		// The client itself can only send a fixed key. The transport adds the token.
		bedrock.MantleClientConfig{BaseURL: baseURL, SkipAuth: true},
		option.WithHTTPClient(&http.Client{Transport: provider.Transport(base)}),
	)
	if err != nil {
		return anthropic.MessageService{}, err
	}
	return client.Messages, nil
}

// newInvokeClient returns a client that turns calls of Messages into InvokeModel.
func newInvokeClient(ctx context.Context, provider *bedrocktoken.Provider, baseURL string, base http.RoundTripper) (anthropic.MessageService, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(provider.Region()))
	if err != nil {
		return anthropic.MessageService{}, err
	}
	cfg.BearerAuthTokenProvider = provider
	// Without it, the client signs with the credentials in cfg.
	cfg.AuthSchemePreference = []string{"httpBearerAuth"}
	client := anthropic.NewClient(
		bedrock.WithConfig(cfg),
		option.WithBaseURL(baseURL), // no path: the client would not turn calls into InvokeModel
		// AWS_BEARER_TOKEN_BEDROCK overrides cfg, and the transport overrides that.
		option.WithHTTPClient(&http.Client{Transport: provider.Transport(base)}),
	)
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
