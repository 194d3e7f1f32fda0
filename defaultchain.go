package bedrocktoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go/logging"
)

// A chain retrieves credentials from the SDK's default chain for a fixed profile
// and the region of the services that it asks. It loads a config for each retrieval,
// so that it sees changed files and does not wait behind an earlier retrieval that
// hangs.
type chain struct {
	region  string
	profile string // "" if the environment has credentials
	named   bool   // whether somebody named the profile, so that it must exist
	machine bool   // whether the credentials are those of the EC2 instance or container

	// What NewProvider loaded serves a retrieval that begins at once: a second load
	// would find nothing in a file that is a pipe.
	loaded   atomic.Pointer[aws.Config]
	loadedAt time.Time
}

// fromDefaultChain fills in what o lacks from the SDK's default chain.
func (o *options) fromDefaultChain(ctx context.Context) error {
	// A default, so that a region of the environment or the profile remains the one
	// in which credentials are retrieved: they may be out of reach in another.
	cfg, err := loadConfig(ctx, o.profile, config.WithDefaultRegion(o.region), config.WithCredentialsProvider(o.source))
	if ctxErr := contextError(ctx); ctxErr != nil {
		return ctxErr
	}
	if err != nil {
		return &credentialsError{"bedrocktoken: cannot load the AWS config: " + bounded(err.Error()), []error{ErrCredentials, err}}
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
	if o.source == nil {
		c := &chain{region: cfg.Region, loadedAt: time.Now()}
		c.profile, c.named = fixedProfile(o.profile)
		c.machine = aws.IsCredentialsProvider(cfg.Credentials, (*ec2rolecreds.Provider)(nil)) ||
			aws.IsCredentialsProvider(cfg.Credentials, (*endpointcreds.Provider)(nil))
		c.loaded.Store(&cfg)
		o.source = c
	}
	return nil
}

// fixedProfile returns the profile whose credentials are used, or "" if the environment
// has some, and whether WithProfile, which gave given, or AWS_PROFILE names it.
func fixedProfile(given string) (profile string, named bool) {
	env, _ := config.NewEnvConfig() // has no error: a config has been loaded
	if given == "" && (env.Credentials.HasKeys() || env.WebIdentityTokenFilePath != "") {
		return "", false
	}
	return cmp.Or(given, env.SharedConfigProfile, config.DefaultSharedConfigProfile), given != "" || os.Getenv("AWS_PROFILE") != ""
}

func loadConfig(ctx context.Context, profile string, opts ...func(*config.LoadOptions) error) (aws.Config, error) {
	// The time-out leaves room for the SDK's retries within a minute. Without
	// keep-alives no connection outlives its request. Only a client of this type
	// heeds AWS_CA_BUNDLE.
	client := awshttp.NewBuildableClient().
		WithTimeout(10 * time.Second).
		WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	opts = append(opts,
		config.WithSharedConfigProfile(profile),
		config.WithDefaultsMode(aws.DefaultsModeLegacy), // auto would ask EC2 for a region, for 5 seconds elsewhere
		config.WithLogger(logging.Nop{}),                // which would write to standard error, at each retrieval
		config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
		// An expiry window would make Expires earlier than it is.
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { *o = aws.CredentialsCacheOptions{} }),
	)
	// As in AWS's CLI. The Go SDK asks for 15 minutes.
	hour := config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) { o.Duration = cmp.Or(o.Duration, time.Hour) })
	cfg, err := config.LoadDefaultConfig(ctx, append(opts, hour)...)
	for _, source := range cfg.ConfigSources {
		shared, _ := source.(config.SharedConfig)
		if given := shared.RoleDurationSeconds; given != nil && *given < 16*time.Minute {
			return config.LoadDefaultConfig(ctx, opts...) // the SDK drops it, for its default of 15 minutes
		}
	}
	return cfg, err
}

func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if cfg := c.loaded.Swap(nil); cfg != nil && time.Since(c.loadedAt) < time.Second {
		return retrieve(ctx, *cfg)
	}
	cfg, err := loadConfig(ctx, c.profile, config.WithRegion(c.region))
	if !c.named && errors.As(err, new(config.SharedConfigProfileNotExistError)) {
		cfg, err = loadConfig(ctx, "", config.WithRegion(c.region)) // as at the start, when it need not exist
	}
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot load the AWS config: %w", err)
	}
	creds, err := retrieve(ctx, cfg)
	if err == nil && traitsOf(creds.Source).machine && !c.machine { // the policy cannot know before the first
		return aws.Credentials{}, anotherIdentity(creds)
	}
	return creds, err
}

// retrieve retrieves from cfg, and heeds AWS_CREDENTIAL_EXPIRATION, which the SDK
// does not.
func retrieve(ctx context.Context, cfg aws.Config) (aws.Credentials, error) {
	creds, err := cfg.Credentials.Retrieve(ctx)
	expiration := os.Getenv("AWS_CREDENTIAL_EXPIRATION")
	if err != nil || expiration == "" || creds.Source != config.CredentialsSourceName {
		return creds, err
	}
	creds.CanExpire = true
	if creds.Expires, err = time.Parse(time.RFC3339, expiration); err != nil {
		return aws.Credentials{}, fmt.Errorf("AWS_CREDENTIAL_EXPIRATION is %.80q, not a time such as 2006-01-02T15:04:05Z", expiration)
	}
	return creds, nil
}
