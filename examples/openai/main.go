// Openai calls Bedrock's OpenAI-compatible API with OpenAI's client, made by its
// bedrock package or, with -generic, as for any other server.
//
//	go run ./openai -region us-east-1 -model openai.gpt-oss-20b-1:0 -stream
//
// With -mantle it calls bedrock-mantle, which serves each model either at /v1 or at
// /openai/v1. GPT-5 and newer, Gemma 4 and Grok need /openai/v1; all others, such as
// gpt-oss, need /v1.
//
//	go run ./openai -region us-east-1 -model openai.gpt-5.4 -mantle -responses
//	go run ./openai -region us-east-1 -model openai.gpt-oss-20b -mantle -responses
package main

import (
	"cmp"
	"context"
	"flag"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/bedrocktoken/bedrocktoken"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/bedrock"
	"github.com/openai/openai-go/v3/option"
)

func main() {
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	model := flag.String("model", "openai.gpt-oss-20b-1:0", "`ID` of a model or inference profile")
	endpoint := flag.String("endpoint", "", "base `URL` to use instead of the region's endpoint")
	mantle := flag.Bool("mantle", false, "use bedrock-mantle, not bedrock-runtime")
	generic := flag.Bool("generic", false, "do without the client's bedrock package")
	responses := flag.Bool("responses", false, "call Responses, not Chat Completions")
	stream := flag.Bool("stream", false, "stream the answer")
	flag.Parse()

	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	baseURL := cmp.Or(*endpoint, endpointFor(provider.Region(), *model, *mantle))
	var client openai.Client
	if *generic {
		client = newGenericClient(provider, baseURL, nil)
	} else {
		client, err = newBedrockClient(ctx, provider, baseURL)
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

// endpointFor returns the base URL for a model.
func endpointFor(region, model string, mantle bool) string {
	if !mantle {
		return "https://bedrock-runtime." + region + ".amazonaws.com/openai/v1"
	}
	path := "/v1"
	if strings.HasPrefix(model, "openai.gpt-") && !strings.HasPrefix(model, "openai.gpt-oss-") ||
		strings.HasPrefix(model, "google.gemma-4") || strings.HasPrefix(model, "xai.grok-") {
		path = "/openai/v1"
	}
	return "https://bedrock-mantle." + region + ".api.aws" + path
}

// newBedrockClient returns a client that ignores all OPENAI_ variables and asks
// for a token before each attempt.
func newBedrockClient(ctx context.Context, provider *bedrocktoken.Provider, baseURL string, opts ...option.RequestOption) (openai.Client, error) {
	return bedrock.NewClient(ctx, bedrock.Config{
		AWSRegion:            provider.Region(), // else AWS_REGION, which must not contradict BaseURL
		BaseURL:              baseURL,           // else AWS_BEDROCK_BASE_URL, then the region's Mantle
		BedrockTokenProvider: provider.Token,
	}, opts...)
}

// newGenericClient returns a client whose transport replaces OPENAI_API_KEY,
// which need not be set.
func newGenericClient(provider *bedrocktoken.Provider, baseURL string, base http.RoundTripper) openai.Client {
	return openai.NewClient(
		option.WithBaseURL(baseURL), // else OPENAI_BASE_URL
		option.WithHTTPClient(&http.Client{Transport: provider.Transport(base)}),
	)
}
