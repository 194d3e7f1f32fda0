// Assumerole calls Converse with tokens that the temporary credentials of a role
// sign. They are renewed for as long as the program runs.
//
//	go run ./assumerole -role arn:aws:iam::123456789012:role/bedrock -region us-east-1
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/bedrocktoken/bedrocktoken"
)

func main() {
	role := flag.String("role", "", "ARN of the role to assume")
	region := flag.String("region", "", "AWS region; by default that of the environment or the profile")
	model := flag.String("model", "us.amazon.nova-lite-v1:0", "model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "in place of the region's bedrock-runtime")
	flag.Parse()
	if *role == "" {
		log.Fatal("-role is missing")
	}

	ctx := context.Background()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(*region))
	if err != nil {
		log.Fatal(err)
	}
	p, err := newProvider(ctx, cfg, *role)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := converse(ctx, newClient(cfg, p, *endpoint), *model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
}

// newProvider returns a Provider that signs as the role, which cfg's credentials
// may assume. It caches the role's credentials, so no aws.CredentialsCache is
// needed.
func newProvider(ctx context.Context, cfg aws.Config, role string) (*bedrocktoken.Provider, error) {
	return bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion(cfg.Region),
		bedrocktoken.WithCredentialsProvider(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role)),
	)
}

func newClient(cfg aws.Config, p *bedrocktoken.Provider, endpoint string) *bedrockruntime.Client {
	return bedrockruntime.NewFromConfig(cfg, func(o *bedrockruntime.Options) {
		o.Region = p.Region()
		o.BearerAuthTokenProvider = p
		o.AuthSchemePreference = []string{"httpBearerAuth"} // not SigV4 with cfg's credentials
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
}

func converse(ctx context.Context, client *bedrockruntime.Client, model string) (string, error) {
	output, err := client.Converse(ctx, &bedrockruntime.ConverseInput{
		ModelId: &model,
		Messages: []types.Message{{
			Role:    types.ConversationRoleUser,
			Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: "Say hello in one sentence."}},
		}},
	})
	if err != nil {
		return "", err
	}
	if message, ok := output.Output.(*types.ConverseOutputMemberMessage); ok {
		for _, block := range message.Value.Content {
			if text, ok := block.(*types.ContentBlockMemberText); ok {
				return text.Value, nil
			}
		}
	}
	return "", errors.New("no text in the answer")
}
