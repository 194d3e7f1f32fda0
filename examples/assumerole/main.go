// Assumerole asks a model with tokens signed with the temporary credentials of a
// role. They are renewed for as long as the program runs.
//
//	go run ./assumerole -region us-east-1 -role arn:aws:iam::123456789012:role/bedrock \
//		-external-id 7f3a -session-name nightly -tag team=search -tag cost-center=42
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/sashabaranov/go-openai"
)

func main() {
	role := flag.String("role", "", "`ARN` of the role to assume")
	externalID := flag.String("external-id", "", "external `ID` that the role's trust policy asks for")
	sessionName := flag.String("session-name", "", "`name` of the role's session, as CloudTrail shows it")
	var tags []types.Tag
	flag.Func("tag", "session tag, as `key=value`; may be repeated", func(tag string) error {
		key, value, ok := strings.Cut(tag, "=")
		if !ok || key == "" {
			return errors.New("not of the form key=value")
		}
		tags = append(tags, types.Tag{Key: &key, Value: &value})
		return nil
	})
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	model := flag.String("model", "openai.gpt-oss-20b-1:0", "`ID` of a model or inference profile")
	endpoint := flag.String("endpoint", "", "base `URL` to use instead of the region's endpoint")
	flag.Parse()
	if *role == "" {
		log.Fatal("-role is missing")
	}

	ctx := context.Background()
	provider, err := newProvider(ctx, *region, *role, func(o *stscreds.AssumeRoleOptions) {
		if *externalID != "" {
			o.ExternalID = externalID
		}
		o.RoleSessionName = *sessionName // if empty, the SDK makes one up
		o.Tags = tags
		o.Duration = time.Hour // the most that any role allows
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := ask(ctx, provider, cmp.Or(*endpoint, "https://bedrock-runtime."+provider.Region()+".amazonaws.com/openai/v1"), *model)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
}

// newProvider returns a Provider whose tokens are signed with the credentials of a
// role, which is assumed with those of the SDK's default chain.
func newProvider(ctx context.Context, region, role string, options func(*stscreds.AssumeRoleOptions)) (*bedrocktoken.Provider, error) {
	// A request that is not answered is given up, and the SDK tries again.
	client := awshttp.NewBuildableClient().WithTimeout(10 * time.Second)
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithDefaultRegion(region), // of STS, if neither the environment nor the profile names one
		config.WithHTTPClient(client),
		// The SDK does not use it for the endpoint of a container, and would wait there for ever.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
	)
	if err != nil {
		return nil, err
	}
	return bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion(region),
		bedrocktoken.WithCredentialsProvider(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role, options)),
		bedrocktoken.WithRenewalErrorHandler(func(err error) { log.Print(err) }),
	)
}

func ask(ctx context.Context, provider *bedrocktoken.Provider, baseURL, model string) (string, error) {
	cfg := openai.DefaultConfig("") // no key: the transport sets the header
	cfg.BaseURL = baseURL
	cfg.HTTPClient = &http.Client{Transport: provider.Transport(nil)}
	response, err := openai.NewClientWithConfig(cfg).CreateChatCompletion(ctx, openai.ChatCompletionRequest{
		Model:    model,
		Messages: []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleUser, Content: "Say hello in one sentence."}},
	})
	if err != nil || len(response.Choices) == 0 {
		return "", cmp.Or(err, errors.New("no answer"))
	}
	return response.Choices[0].Message.Content, nil
}
