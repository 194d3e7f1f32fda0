package bedrocktoken

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

const (
	minExpiry = time.Second
	maxExpiry = 12 * time.Hour
)

// An Option changes a setting of [ProvideToken] or [NewProvider]. If an option is
// given twice, the last one wins.
type Option func(*options)

type options struct {
	region      string
	credentials aws.CredentialsProvider
	expiry      time.Duration
	profile     string
	config      *aws.Config
	onError     func(error)
}

// WithRegion sets the region the token is valid in. By default, or if region is
// empty, it is that of [WithConfig] or else of the SDK's default chain:
// AWS_REGION, AWS_DEFAULT_REGION, then the profile's.
func WithRegion(region string) Option {
	return func(o *options) { o.region = region }
}

// WithCredentialsProvider sets the source of the credentials that sign the token.
// By default, or if provider is nil, it is that of [WithConfig] or else the SDK's
// default chain. A nil pointer or function in the interface is an error.
//
// A [Provider] caches what the source returns: do not wrap it in an
// [aws.CredentialsCache].
func WithCredentialsProvider(provider aws.CredentialsProvider) Option {
	return func(o *options) { o.credentials = provider }
}

// WithExpiry sets how long the token lasts unless its credentials expire first:
// from 1 second to 12 hours, which is the default. A fraction of a second is
// dropped. Anything else is [ErrExpiry].
func WithExpiry(expiry time.Duration) Option {
	return func(o *options) { o.expiry = expiry }
}

// WithProfile sets the profile of the shared config files, used for what the other
// options do not give. Unlike AWS_PROFILE it takes precedence over keys and web
// identity in the environment; AWS_REGION still precedes its region. It cannot be
// combined with [WithConfig].
//
// For a profile that asks for an MFA code, load a config with an
// stscreds.AssumeRoleOptions.TokenProvider and use [WithConfig].
func WithProfile(profile string) Option {
	return func(o *options) { o.profile = profile }
}

// WithConfig uses the region and credentials of cfg in place of the SDK's default
// chain. [WithRegion] and [WithCredentialsProvider] take precedence.
//
// The credentials of a loaded config are an [aws.CredentialsCache]. A service
// should rather let the [Provider] load the default chain.
func WithConfig(cfg aws.Config) Option {
	return func(o *options) { o.config = &cfg }
}

// WithRenewalErrorHandler makes handle be called, in the background, with the
// error of each renewal that failed while callers go on with the credentials that
// are held. A nil handle is none.
func WithRenewalErrorHandler(handle func(error)) Option {
	return func(o *options) { o.onError = handle }
}

// resolve applies opts, refuses what can be seen to be wrong, and only then
// loads what is still missing.
func resolve(ctx context.Context, opts []Option) (options, error) {
	o := options{expiry: maxExpiry}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if o.expiry < minExpiry || o.expiry > maxExpiry {
		return o, fmt.Errorf("%w: %v is not from %v to %v", ErrExpiry, o.expiry, minExpiry, maxExpiry)
	}
	o.expiry = o.expiry.Truncate(time.Second)
	if o.region != "" {
		if err := checkRegion(o.region); err != nil {
			return o, err
		}
	}
	if o.config != nil && o.profile != "" {
		return o, fmt.Errorf("bedrocktoken: WithConfig and WithProfile(%q) conflict: give one of them", o.profile)
	}
	if o.credentials != nil && emptyProvider(o.credentials) {
		return o, fmt.Errorf("%w: the %T given to WithCredentialsProvider is nil or wraps nothing", ErrCredentials, o.credentials)
	}
	switch {
	case o.config != nil:
		return o, o.take(*o.config)
	case o.region == "" || o.credentials == nil:
		return o, o.load(ctx)
	}
	return o, nil
}

// take completes o from cfg.
func (o *options) take(cfg aws.Config) error {
	if o.region == "" {
		if cfg.Region == "" {
			return fmt.Errorf("%w: the config given to WithConfig has none; set its Region, or use WithRegion", ErrRegion)
		}
		o.region = cfg.Region
	}
	if o.credentials == nil {
		if cfg.Credentials == nil || emptyProvider(cfg.Credentials) {
			return fmt.Errorf("%w: the config given to WithConfig has none", ErrCredentials)
		}
		o.credentials = cfg.Credentials
	}
	return checkRegion(o.region)
}

// load completes o from the SDK's default chain.
func (o *options) load(ctx context.Context) error {
	cfg, err := chain{o.region, o.profile}.load(ctx, config.WithCredentialsProvider(o.credentials))
	if ctxErr := contextError(ctx); ctxErr != nil {
		return ctxErr
	}
	switch {
	case err != nil && o.credentials != nil:
		return configError(ErrRegion, err)
	case err != nil:
		return configError(ErrCredentials, err)
	case cfg.Region == "":
		return fmt.Errorf("%w: none is set; use WithRegion, AWS_REGION, AWS_DEFAULT_REGION or the profile's region", ErrRegion)
	}
	o.region = cfg.Region
	if o.credentials == nil {
		o.credentials = chain{o.region, loadedProfile(cfg, o.profile)}
	}
	return checkRegion(o.region)
}

// loadedProfile returns the profile that cfg was loaded from, if its credentials
// may be. Those of the environment precede it, unless it was given.
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

// emptyProvider reports whether there is nothing to call in provider.
func emptyProvider(provider aws.CredentialsProvider) bool {
	cache, ok := provider.(*aws.CredentialsCache)
	return isNil(provider) || ok && cache.IsCredentialsProvider(nil) // that is, around nil
}

// isNil reports whether v, an interface that is not nil, has a nil in it.
func isNil(v any) bool {
	switch v := reflect.ValueOf(v); v.Kind() {
	case reflect.Chan, reflect.Func, reflect.Map, reflect.Pointer, reflect.Slice:
		return v.IsNil()
	}
	return false
}

// checkRegion returns an error if region cannot be the name of one. It is a DNS
// label of endpoints, hence the greatest length.
func checkRegion(region string) error {
	plausible := len(region) <= 63
	for label := range strings.SplitSeq(region, "-") {
		plausible = plausible && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
	}
	if !plausible {
		return fmt.Errorf("%w: %.80q is not the name of a region, such as \"us-east-1\"", ErrRegion, region)
	}
	return nil
}
