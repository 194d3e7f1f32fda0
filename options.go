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

// An Option changes one setting of [ProvideToken] or [NewProvider]. Without
// any, region and credentials come from the SDK's default chain and a token
// lives for 12 hours. Of the same option given twice, the last one counts.
type Option func(*options)

type options struct {
	region      string
	credentials aws.CredentialsProvider
	expiry      time.Duration
	profile     string
	config      *aws.Config
}

// WithRegion sets the region that the token is signed for, which is the only
// one that it is good in. The default, and the meaning of an empty string, is
// the region of [WithConfig], else of the SDK's default chain: AWS_REGION,
// AWS_DEFAULT_REGION, then the profile's. A string that cannot be the name of a
// region is [ErrRegion].
func WithRegion(region string) Option {
	return func(o *options) { o.region = region }
}

// WithCredentialsProvider sets the source of the credentials that sign the
// token. The default, and the meaning of nil, is the credentials of
// [WithConfig], else the SDK's default chain.
//
// A [Provider] caches what the source returns, so a raw one such as those of
// the SDK's stscreds may be given as it is. An [*aws.CredentialsCache] is used as
// it is: it renews ahead of the end by its ExpiryWindow, which is zero by default,
// and the end that it reports is believed.
func WithCredentialsProvider(provider aws.CredentialsProvider) Option {
	return func(o *options) { o.credentials = provider }
}

// WithExpiry sets how long a token lives, from 1 second to 12 hours, both
// inclusive; anything else is [ErrExpiry]. A fraction of a second is dropped.
// The default is 12 hours. Whatever the expiry, a token dies with the
// credentials that signed it.
func WithExpiry(expiry time.Duration) Option {
	return func(o *options) { o.expiry = expiry }
}

// WithProfile sets the profile of the shared config and credentials files to
// load, as AWS_PROFILE does, but preferred to credentials in the environment.
// It is for what the other options do not give, and unused if they give both
// region and credentials. It cannot be combined with [WithConfig], which loads
// nothing. An empty string is the same as not given.
//
// A profile that asks for an MFA code needs [WithConfig]: load the config with
// an stscreds.AssumeRoleOptions.TokenProvider of your own.
func WithProfile(profile string) Option {
	return func(o *options) { o.profile = profile }
}

// WithConfig takes region and credentials from a config that is loaded already,
// in place of the SDK's default chain: nothing is read from files or the
// environment. [WithRegion] and [WithCredentialsProvider] take precedence.
//
// The credentials of a loaded config are an [*aws.CredentialsCache]. For a
// [Provider] load it with config.WithCredentialsCacheOptions and an ExpiryWindow
// of a minute or more; see [WithCredentialsProvider].
func WithConfig(cfg aws.Config) Option {
	return func(o *options) { o.config = &cfg }
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
		return o, fmt.Errorf("bedrocktoken: WithConfig and WithProfile(%q) contradict each other: give one of them", o.profile)
	}
	if isNil(o.credentials) {
		o.credentials = nil
	}

	if o.config != nil {
		o.complete(*o.config)
	} else if o.region == "" || o.credentials == nil {
		if err := o.load(ctx); err != nil {
			return o, err
		}
	}
	if err := checkRegion(o.region); err != nil {
		return o, err
	}
	if isNil(o.credentials) {
		return o, fmt.Errorf("%w: the config given to WithConfig has none", ErrCredentials)
	}
	return o, nil
}

// complete takes from cfg what was not given.
func (o *options) complete(cfg aws.Config) {
	if o.region == "" {
		o.region = cfg.Region
	}
	if o.credentials == nil {
		o.credentials = cfg.Credentials
	}
}

// load completes o from the SDK's default chain.
func (o *options) load(ctx context.Context) error {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(o.region),
		config.WithSharedConfigProfile(o.profile),
		config.WithCredentialsProvider(o.credentials),
		config.WithCredentialsCacheOptions(func(c *aws.CredentialsCacheOptions) {
			*c = aws.CredentialsCacheOptions{} // a window would hide when the credentials end
		}),
	)
	if ctxErr := contextError(ctx); ctxErr != nil {
		return ctxErr
	}
	switch {
	case err != nil && o.credentials != nil:
		return fmt.Errorf("%w: %w", ErrRegion, err)
	case err != nil:
		return credentialsError{err}
	}
	if chain, ok := cfg.Credentials.(*aws.CredentialsCache); ok {
		cfg.Credentials = uncached(chain)
	}
	o.complete(cfg)
	return nil
}

// isNil tells whether there is nothing to call in provider, be it a nil pointer
// or function of a type that has the method.
func isNil(provider aws.CredentialsProvider) bool {
	if cache, ok := provider.(*aws.CredentialsCache); ok && cache != nil {
		return cache.IsCredentialsProvider(nil) // that is, around nil
	}
	v := reflect.ValueOf(provider)
	return !v.IsValid() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()
}

// checkRegion tells whether region could be the name of one. It is a DNS label
// of endpoints, hence the greatest length.
func checkRegion(region string) error {
	if region == "" {
		return fmt.Errorf("%w: none is set; use WithRegion, AWS_REGION, AWS_DEFAULT_REGION or the profile's region", ErrRegion)
	}
	plausible := len(region) <= 63
	for label := range strings.SplitSeq(region, "-") {
		plausible = plausible && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
	}
	if !plausible {
		return fmt.Errorf("%w: %.80q is not the name of a region, such as \"us-east-1\"", ErrRegion, region)
	}
	return nil
}
