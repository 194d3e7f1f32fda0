package bedrocktoken

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/smithy-go/logging"
)

// A chain is the SDK's default chain for a region and a profile, both as they
// were found. Its Retrieve loads everything else anew, so that it sees what has
// changed in files, and does not join an earlier retrieval that hangs.
type chain struct {
	region, profile string
}

func (c chain) load(ctx context.Context, opts ...func(*config.LoadOptions) error) (aws.Config, error) {
	// A request that is not answered in time is sent again, and all of its tries
	// fit into a retrieval. This type of client heeds AWS_CA_BUNDLE.
	client := awshttp.NewBuildableClient().WithTimeout(10 * time.Second)
	return config.LoadDefaultConfig(ctx, append(opts,
		config.WithRegion(c.region),
		config.WithSharedConfigProfile(c.profile),
		config.WithLogger(logging.Nop{}), // which would write to standard error, at each retrieval
		config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) {
			*o = aws.CredentialsCacheOptions{} // a window would hide when the credentials expire
		}),
	)...)
}

func (c chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	cfg, err := c.load(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot load the AWS config: %w", err)
	}
	creds, err := cfg.Credentials.Retrieve(ctx)
	if err != nil || creds.Source != config.CredentialsSourceName {
		return creds, err
	}
	const variable = "AWS_CREDENTIAL_EXPIRATION" // unknown to the SDK
	if value := os.Getenv(variable); value != "" {
		creds.CanExpire = true
		creds.Expires, err = time.Parse(time.RFC3339, value)
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("%s is %.80q, not a time such as 2006-01-02T15:04:05Z", variable, value)
		}
	}
	return creds, nil
}
