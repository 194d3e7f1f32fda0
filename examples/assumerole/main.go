// Assumerole calls Converse with tokens signed with the temporary credentials of a
// role. They are renewed for as long as the program runs.
//
//	go run ./assumerole -region us-east-1 -role arn:aws:iam::123456789012:role/bedrock \
//		-external-id 7f3a -session-name nightly -tag team=search -tag cost-center=42
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/bedrocktoken/bedrocktoken"
)

func main() {
	r := role{Tags: map[string]string{}}
	flag.StringVar(&r.ARN, "role", "", "`ARN` of the role to assume")
	flag.StringVar(&r.ExternalID, "external-id", "", "external `ID` that the role's trust policy asks for")
	flag.StringVar(&r.SessionName, "session-name", "", "`name` of the role's session, as CloudTrail shows it")
	flag.Func("tag", "session tag, as `key=value`; may be repeated", func(tag string) error {
		key, value, ok := strings.Cut(tag, "=")
		if !ok || key == "" {
			return errors.New("not of the form key=value")
		}
		r.Tags[key] = value
		return nil
	})
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	model := flag.String("model", "us.amazon.nova-lite-v1:0", "`ID` of a model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "base `URL` to use instead of the region's endpoint")
	flag.Parse()
	if r.ARN == "" {
		log.Fatal("-role is missing")
	}

	ctx := context.Background()
	r.Region = *region
	provider, err := newProvider(ctx, *region, r)
	if err != nil {
		log.Fatal(err)
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := converse(ctx, newClient(cfg, provider, *endpoint), *model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
}

// newProvider returns a Provider whose tokens are signed with r's credentials. It
// caches and renews them.
func newProvider(ctx context.Context, region string, r role) (*bedrocktoken.Provider, error) {
	return bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion(region),
		bedrocktoken.WithCredentialsProvider(aws.CredentialsProviderFunc(r.retrieve)),
		bedrocktoken.WithRenewalErrorHandler(func(err error) { log.Print(err) }),
	)
}

func newClient(cfg aws.Config, provider *bedrocktoken.Provider, endpoint string) *bedrockruntime.Client {
	return bedrockruntime.NewFromConfig(cfg, func(o *bedrockruntime.Options) {
		o.Region = provider.Region()
		o.BearerAuthTokenProvider = provider
		o.AuthSchemePreference = []string{"httpBearerAuth"} // without it, the client signs with cfg's credentials
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
