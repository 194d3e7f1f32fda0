// Package transport makes what the commands call Bedrock through.
package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

// New returns the transport that the AWS SDK's clients have by default: it heeds
// AWS_CA_BUNDLE, the ca_bundle of the profile and the proxy of the environment. Its
// error names a proxy that refuses. It is the caller's alone to change.
func New(ctx context.Context, profile string) (*http.Transport, error) {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithSharedConfigProfile(profile),
		config.WithHTTPClient(awshttp.NewBuildableClient()),
		config.WithCredentialsProvider(aws.AnonymousCredentials{}), // none are needed, and a role may want an MFA code
		config.WithDefaultsMode(aws.DefaultsModeLegacy),            // another shortens the time for a TLS handshake
		config.WithLogger(logging.Nop{}),
	)
	if profile != "" && errors.As(err, new(config.SharedConfigProfileNotExistError)) {
		return New(ctx, "") // the file may be a pipe, which is empty once the profile has been read for credentials
	}
	if err != nil {
		return nil, fmt.Errorf("cannot load the AWS config: %w", err)
	}
	base := cfg.HTTPClient.(*awshttp.BuildableClient).GetTransport() // of the type that was given
	// Its own error for this does not say who answered.
	base.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, response *http.Response) error {
		if response.StatusCode != http.StatusOK {
			return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: fmt.Errorf("%s answered with status %d", proxy.Host, response.StatusCode)}
		}
		return nil
	}
	return base, nil
}
