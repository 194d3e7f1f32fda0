package bedrocktoken

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const minExpiry, maxExpiry = time.Second, 12 * time.Hour

// An Option configures [ProvideToken] or [NewProvider]. If an option is given
// twice, the last one wins.
type Option func(*options)

type options struct {
	region  string
	source  aws.CredentialsProvider
	expiry  time.Duration
	profile string
	handle  func(error)
}

// WithRegion sets the region the token is valid in. The default chain still retrieves
// credentials in the region of the environment or the profile, if any.
// WithRegion("") has no effect.
func WithRegion(region string) Option {
	return func(o *options) { o.region = region }
}

// WithCredentialsProvider sets the source of the credentials that sign the token.
// The default, also if source is nil, is the SDK's default chain. A nil pointer in
// source is an [ErrCredentials].
//
// The table under Trouble has what holds for which source. An [aws.CredentialsCache],
// such as the Credentials of an [aws.Config], waits forever for a request that is
// never answered: load the config with a time limit, as in the example
// ConfigWithOptions.
func WithCredentialsProvider(source aws.CredentialsProvider) Option {
	return func(o *options) { o.source = source }
}

// WithExpiry sets how long the token lasts unless its credentials expire first: from
// 1 second to 12 hours, the default. Fractions of a second are cut. Other values are
// an [ErrExpiry].
func WithExpiry(expiry time.Duration) Option {
	return func(o *options) { o.expiry = expiry }
}

// WithProfile sets the profile of the shared config files. Unlike AWS_PROFILE it
// takes precedence over credentials in the environment. A profile whose role asks
// for an MFA code needs [WithCredentialsProvider].
func WithProfile(profile string) Option {
	return func(o *options) { o.profile = profile }
}

// WithRenewalErrorHandler sets a function that is given the error of each retrieval
// that failed while calls get tokens. The error, an [ErrCredentials], says until when
// the held credentials are used: log it, count it, or warn whoever has to sign in.
//
// It is called in the background. If it blocks, its calls may overlap.
func WithRenewalErrorHandler(handle func(err error)) Option {
	return func(o *options) { o.handle = handle }
}

// resolve applies and validates opts, then fills in what is missing.
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
	if o.source != nil && emptyProvider(o.source) {
		return o, fmt.Errorf("%w: the %T given to WithCredentialsProvider is nil or wraps nothing", ErrCredentials, o.source)
	}
	if o.region != "" && o.source != nil {
		return o, nil
	}
	err := o.fromDefaultChain(ctx)
	return o, err
}

// emptyProvider reports whether source has a nil in it, or is a cache around nil, and
// would panic when called.
func emptyProvider(source aws.CredentialsProvider) bool {
	switch v := reflect.ValueOf(source); v.Kind() {
	case reflect.Chan, reflect.Func, reflect.Map, reflect.Pointer, reflect.Slice:
		if v.IsNil() {
			return true
		}
	}
	cache, ok := source.(*aws.CredentialsCache)
	return ok && cache.IsCredentialsProvider(nil) // that is, around nil
}

// regionName is the pattern of a region's name.
const regionName = `[a-z]+(?:-[a-z]+)+-[0-9]+`

var onlyRegionName = regexp.MustCompile(`^` + regionName + `$`)

func checkRegion(region string) error {
	if len(region) > 63 || !onlyRegionName.MatchString(region) {
		return fmt.Errorf("%w: %.80q is not the name of a region, such as \"us-east-1\"", ErrRegion, region)
	}
	return nil
}
