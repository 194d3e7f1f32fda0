// Bedrockruntime calls Converse and ConverseStream with the AWS SDK's client.
//
//	go run ./bedrockruntime -region us-east-1 -model us.amazon.nova-lite-v1:0 -stream
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/bedrocktoken/bedrocktoken"
)

func main() {
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	model := flag.String("model", "us.amazon.nova-lite-v1:0", "`ID` of a model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "base `URL` to use instead of the region's endpoint")
	stream := flag.Bool("stream", false, "stream the answer")
	flag.Parse()

	ctx := context.Background()
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithBaseEndpoint(*endpoint))
	if err != nil {
		log.Fatal(err)
	}
	call := converse
	if *stream {
		call = converseStream
	}
	if err := call(ctx, newClient(cfg, provider), *model, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func newClient(cfg aws.Config, provider *bedrocktoken.Provider) *bedrockruntime.Client {
	return bedrockruntime.NewFromConfig(cfg, func(o *bedrockruntime.Options) {
		o.Region = provider.Region()
		// Here and not in cfg, which AWS_BEARER_TOKEN_BEDROCK overrides.
		o.BearerAuthTokenProvider = provider
		// Without it, the credentials in cfg sign the requests with SigV4.
		o.AuthSchemePreference = []string{"httpBearerAuth"}
	})
}

func converse(ctx context.Context, client *bedrockruntime.Client, model string, w io.Writer) error {
	output, err := client.Converse(ctx, &bedrockruntime.ConverseInput{ModelId: &model, Messages: messages()})
	if err != nil {
		return err
	}
	if message, ok := output.Output.(*types.ConverseOutputMemberMessage); ok {
		for _, block := range message.Value.Content {
			if text, ok := block.(*types.ContentBlockMemberText); ok {
				fmt.Fprint(w, text.Value)
			}
		}
	}
	_, err = fmt.Fprintln(w)
	return err
}

func converseStream(ctx context.Context, client *bedrockruntime.Client, model string, w io.Writer) error {
	output, err := client.ConverseStream(ctx, &bedrockruntime.ConverseStreamInput{ModelId: &model, Messages: messages()})
	if err != nil {
		return err
	}
	stream := output.GetStream()
	defer stream.Close()
	for event := range stream.Events() {
		if delta, ok := event.(*types.ConverseStreamOutputMemberContentBlockDelta); ok {
			if text, ok := delta.Value.Delta.(*types.ContentBlockDeltaMemberText); ok {
				fmt.Fprint(w, text.Value)
			}
		}
	}
	fmt.Fprintln(w)
	return stream.Err()
}

func messages() []types.Message {
	return []types.Message{{
		Role:    types.ConversationRoleUser,
		Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: "Say hello in one sentence."}},
	}}
}
