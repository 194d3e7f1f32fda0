package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
)

// A role is assumed with the credentials of the SDK's default chain.
type role struct {
	ARN         string
	ExternalID  string
	SessionName string
	Tags        map[string]string // session tags
	// Region is where STS is asked if the environment and the profile name none.
	Region string
}

// retrieve is an [aws.CredentialsProviderFunc]. It loads a config each time: a
// config that is kept holds a cache, which never sees keys that were replaced in
// the shared files, and waits forever behind a request that is never answered.
func (r role) retrieve(ctx context.Context) (aws.Credentials, error) {
	client := awshttp.NewBuildableClient().
		WithTimeout(10 * time.Second). // then the SDK tries again
		WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithDefaultRegion(r.Region),
		config.WithHTTPClient(client),
		// Without it, the SDK asks a container's endpoint with no time limit.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
	)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot load the AWS config: %w", err)
	}
	return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), r.ARN, func(o *stscreds.AssumeRoleOptions) {
		if r.ExternalID != "" {
			o.ExternalID = &r.ExternalID
		}
		o.RoleSessionName = r.SessionName // if empty, the SDK makes one up
		o.Duration = time.Hour            // the most that any role allows
		for key, value := range r.Tags {
			o.Tags = append(o.Tags, types.Tag{Key: &key, Value: &value})
		}
	}).Retrieve(ctx)
}
