package bedrocktoken

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/smithy-go/auth/bearer"
)

// A Provider makes tokens for as long as the program runs. Make one with
// [NewProvider] at start-up and share it: it is safe for concurrent use.
//
// It keeps credentials rather than tokens, and renews them in the background
// before they expire. Callers wait for a renewal only in the last minute, for at
// most a second; if it fails or hangs, the current credentials are used until they
// expire. Those that do not expire are looked up again every 5 minutes. None of
// this applies to an [aws.CredentialsCache]. The README has the details.
//
// A Provider is a [bearer.TokenProvider]. Formatting one with fmt reveals no
// secrets. The methods of the zero value return [ErrCredentials].
type Provider struct {
	region  string
	token   func(context.Context) (bearer.Token, error) // of a signer: fmt looks into all but functions
	signFor func(region string) *Provider
}

var _ bearer.TokenProvider = (*Provider)(nil)

// NewProvider returns a [Provider]. It finds the region, and reads the
// environment and the shared config files only if the options do not give all it
// needs. It retrieves no credentials: that they are missing may be reported only
// by the first token. The errors are those of [ProvideToken].
func NewProvider(ctx context.Context, opts ...Option) (*Provider, error) {
	if err := contextError(ctx); err != nil {
		return nil, err
	}
	o, err := resolve(ctx, opts)
	if err != nil {
		return nil, err
	}
	return newProvider(o.region, o.expiry, shared(o.credentials)), nil
}

func newProvider(region string, expiry time.Duration, credentials retrieveFunc) *Provider {
	signer := &signer{
		region:      region,
		expiry:      expiry,
		request:     unsignedRequest(expiry),
		credentials: credentials,
	}
	return &Provider{
		region:  region,
		token:   signer.token,
		signFor: func(region string) *Provider { return newProvider(region, expiry, credentials) },
	}
}

// ForRegion returns a [Provider] for another region that uses the same
// credentials: one retrieval and one renewal serve both. The error is [ErrRegion],
// or [ErrCredentials] if p was not made by [NewProvider].
func (p *Provider) ForRegion(region string) (*Provider, error) {
	if p == nil || p.signFor == nil {
		return nil, fmt.Errorf("%w: this Provider was not made by NewProvider", ErrCredentials)
	}
	if err := checkRegion(region); err != nil {
		return nil, err
	}
	return p.signFor(region), nil
}

// Region returns the region the tokens are valid in, from which to build the
// address of an endpoint.
func (p *Provider) Region() string {
	if p == nil {
		return ""
	}
	return p.region
}

// Token returns a token for immediate use. The error is [ErrCredentials], or
// that of ctx once it is done.
func (p *Provider) Token(ctx context.Context) (string, error) {
	token, err := p.RetrieveBearerToken(ctx)
	return token.Value, err
}

// RetrieveBearerToken is like [Provider.Token] and also reports when the token
// expires: after the time set by [WithExpiry], or with the credentials that
// signed it if that is earlier.
func (p *Provider) RetrieveBearerToken(ctx context.Context) (bearer.Token, error) {
	if err := contextError(ctx); err != nil {
		return bearer.Token{}, err
	}
	if p == nil || p.token == nil {
		return bearer.Token{}, fmt.Errorf("%w: this Provider was not made by NewProvider", ErrCredentials)
	}
	return p.token(ctx)
}
