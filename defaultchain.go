package bedrocktoken

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/smithy-go/logging"
)

// A chain retrieves credentials from the SDK's default chain for a fixed profile
// and the region of the services that it asks. Each Retrieve but the first reloads
// the configuration, so that it sees changed files and does not wait behind an
// earlier retrieval that hangs.
type chain struct {
	region, profile string

	// The first retrieval uses the config that NewProvider loaded: a second load
	// would find nothing in a pipe, and may take seconds.
	loaded atomic.Pointer[aws.Config]
}

// fromDefaultChain fills in what o lacks from the SDK's default chain.
func (o *options) fromDefaultChain(ctx context.Context) error {
	// A default, so that a region of the environment or the profile remains the one
	// in which credentials are retrieved: they may be out of reach in another.
	cfg, err := loadConfig(ctx, o.profile, config.WithDefaultRegion(o.region), config.WithCredentialsProvider(o.credentials))
	if ctxErr := contextError(ctx); ctxErr != nil {
		return ctxErr
	}
	if err != nil {
		return configError(err)
	}
	if o.region == "" {
		if cfg.Region == "" {
			return fmt.Errorf("%w: none is set; use WithRegion, AWS_REGION, AWS_DEFAULT_REGION or the profile's region", ErrRegion)
		}
		if err := checkRegion(cfg.Region); err != nil {
			return err
		}
		o.region = cfg.Region
	}
	if o.credentials == nil {
		c := &chain{region: cfg.Region, profile: loadedProfile(cfg, o.profile)}
		c.loaded.Store(&cfg)
		o.credentials = c
	}
	return nil
}

// loadedProfile returns the profile whose credentials cfg uses: given if it is not
// empty, "" if the environment has credentials, or else the profile that was loaded.
func loadedProfile(cfg aws.Config, given string) string {
	profile := given
	for _, source := range cfg.ConfigSources {
		switch source := source.(type) {
		case config.EnvConfig:
			if source.Credentials.HasKeys() || source.WebIdentityTokenFilePath != "" {
				return given
			}
		case config.SharedConfig:
			profile = source.Profile
		}
	}
	return profile
}

func loadConfig(ctx context.Context, profile string, opts ...func(*config.LoadOptions) error) (aws.Config, error) {
	// The time-out leaves room for the SDK's retries within retrievalLimit. Without
	// keep-alives no connection outlives its request. Only a client of this type
	// heeds AWS_CA_BUNDLE.
	client := awshttp.NewBuildableClient().
		WithTimeout(10 * time.Second).
		WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	return config.LoadDefaultConfig(ctx, append(opts,
		config.WithSharedConfigProfile(profile),
		config.WithDefaultsMode(aws.DefaultsModeStandard), // auto asks EC2 for a region, for 5 seconds elsewhere
		config.WithLogger(logging.Nop{}),                  // which would write to standard error, at each retrieval
		config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) {
			*o = aws.CredentialsCacheOptions{} // an expiry window would make Expires earlier than it is
		}),
	)...)
}

func (c *chain) Retrieve(ctx context.Context) (creds aws.Credentials, err error) {
	loaded := c.loaded.Swap(nil)
	if loaded != nil {
		if creds, err = retrieve(ctx, *loaded); err == nil {
			return creds, nil
		}
	}
	cfg, loadErr := loadConfig(ctx, c.profile, config.WithRegion(c.region))
	if loadErr != nil {
		return aws.Credentials{}, fmt.Errorf("cannot load the AWS config: %w", loadErr)
	}
	// A tool may have written credentials since NewProvider loaded the config.
	if loaded != nil && reflect.DeepEqual(settings(cfg), settings(*loaded)) {
		return creds, err
	}
	return retrieve(ctx, cfg)
}

// settings returns what cfg was loaded from in the environment and the files.
func settings(cfg aws.Config) (settings []any) {
	for _, source := range cfg.ConfigSources {
		switch source.(type) {
		case config.EnvConfig, config.SharedConfig:
			settings = append(settings, source)
		}
	}
	return settings
}

// retrieve retrieves from cfg, and heeds AWS_CREDENTIAL_EXPIRATION, which the SDK
// does not.
func retrieve(ctx context.Context, cfg aws.Config) (aws.Credentials, error) {
	creds, err := cfg.Credentials.Retrieve(ctx)
	if err != nil || creds.Source != config.CredentialsSourceName {
		return creds, err
	}
	const variable = "AWS_CREDENTIAL_EXPIRATION"
	if value := os.Getenv(variable); value != "" {
		creds.CanExpire = true
		creds.Expires, err = time.Parse(time.RFC3339, value)
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("%s is %.80q, not a time such as 2006-01-02T15:04:05Z", variable, value)
		}
	}
	return creds, nil
}
