// Openai calls Bedrock's OpenAI-compatible API with OpenAI's client, made by its
// bedrock package or, with -generic, as for any other server.
//
//	go run ./openai -region us-east-1 -model openai.gpt-oss-20b-1:0 -stream
//
// Not every model has the Responses API, and some have it on Mantle only:
//
//	go run ./openai -region us-east-1 -model openai.gpt-oss-20b -mantle -responses
package main

import (
	"cmp"
	"context"
	"flag"
	"log"
	"net/http"
	"os"

	"github.com/bedrocktoken/bedrocktoken"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/bedrock"
	"github.com/openai/openai-go/v3/option"
)

func main() {
	region := flag.String("region", "", "AWS region; by default that of the environment or the profile")
	model := flag.String("model", "openai.gpt-oss-20b-1:0", "model or inference profile")
	endpoint := flag.String("endpoint", "", "in place of the region's")
	mantle := flag.Bool("mantle", false, "use bedrock-mantle")
	generic := flag.Bool("generic", false, "do without the client's bedrock package")
	responses := flag.Bool("responses", false, "call Responses, not Chat Completions")
	stream := flag.Bool("stream", false, "stream the answer")
	flag.Parse()

	ctx := context.Background()
	p, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	baseURL := "https://bedrock-runtime." + p.Region() + ".amazonaws.com/openai/v1"
	if *mantle {
		baseURL = "https://bedrock-mantle." + p.Region() + ".api.aws/v1"
	}
	baseURL = cmp.Or(*endpoint, baseURL)
	var client openai.Client
	if *generic {
		client = newGenericClient(p, baseURL, nil)
	} else {
		client, err = newBedrockClient(ctx, p, baseURL)
	}
	if err != nil {
		log.Fatal(err)
	}
	call := chat
	switch {
	case *responses && *stream:
		call = respondStream
	case *responses:
		call = respond
	case *stream:
		call = chatStream
	}
	if err := call(ctx, client, *model, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// newBedrockClient returns a client that ignores all OPENAI_ variables and asks
// for a token before each attempt.
func newBedrockClient(ctx context.Context, p *bedrocktoken.Provider, baseURL string, opts ...option.RequestOption) (openai.Client, error) {
	return bedrock.NewClient(ctx, bedrock.Config{
		AWSRegion:            p.Region(), // else AWS_REGION, which must not contradict BaseURL
		BaseURL:              baseURL,    // else AWS_BEDROCK_BASE_URL, then the region's Mantle
		BedrockTokenProvider: p.Token,
	}, opts...)
}

// newGenericClient returns a client whose transport replaces OPENAI_API_KEY,
// which need not be set.
func newGenericClient(p *bedrocktoken.Provider, baseURL string, base http.RoundTripper) openai.Client {
	return openai.NewClient(
		option.WithBaseURL(baseURL), // else OPENAI_BASE_URL
		option.WithHTTPClient(&http.Client{Transport: p.Transport(base)}),
	)
}
