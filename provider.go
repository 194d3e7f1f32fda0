package bedrocktoken

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/auth/bearer"
)

// A Provider creates tokens and renews the credentials that sign them. Create one
// with [NewProvider] when the program starts and share it: it is safe for concurrent
// use.
//
// A Provider is a [bearer.TokenProvider]. Formatting one with fmt reveals no
// secrets.
type Provider struct {
	signer func() *signer // a func, because fmt's %s prints what a pointer points to
}

var _ bearer.TokenProvider = (*Provider)(nil)

// NewProvider returns a [Provider]. It reads the environment and the shared config
// files unless opts supply both region and credentials. It retrieves no credentials:
// the first call to [Provider.Token] may report that they are missing. The context
// bounds the loading of the config and is not kept. The errors are those of
// [ProvideToken].
func NewProvider(ctx context.Context, opts ...Option) (*Provider, error) {
	if err := contextError(ctx); err != nil {
		return nil, err
	}
	o, err := resolve(ctx, opts)
	if err != nil {
		return nil, err
	}
	return newProvider(o.region, o.expiry, cached(o.source, o.handle)), nil
}

func newProvider(region string, expiry time.Duration, source aws.CredentialsProvider) *Provider {
	s := &signer{region: region, expiry: expiry, request: unsignedRequest(expiry), source: source}
	return &Provider{signer: func() *signer { return s }}
}

// errNotMade is the error of a Provider that NewProvider did not make.
var errNotMade = fmt.Errorf("%w: this Provider was not made by NewProvider", ErrCredentials)

// ForRegion returns a [Provider] for another region with the same credentials and
// expiry, for failing over: one retrieval serves both. If region is not the name of
// one, the error is [ErrRegion].
func (provider *Provider) ForRegion(region string) (*Provider, error) {
	if provider == nil || provider.signer == nil {
		return nil, errNotMade
	}
	if err := checkRegion(region); err != nil {
		return nil, err
	}
	own := provider.signer()
	return newProvider(region, own.expiry, own.source), nil
}

// Region returns the region the tokens are valid in, for building endpoint URLs.
func (provider *Provider) Region() string {
	if provider == nil || provider.signer == nil {
		return ""
	}
	return provider.signer().region
}

// Token returns a token for immediate use. Ask for one before each request: it
// rarely blocks. If ctx is done first, the error wraps ctx's; otherwise it matches
// [ErrCredentials].
func (provider *Provider) Token(ctx context.Context) (string, error) {
	token, _, err := provider.sign(ctx)
	return token.Value, err
}

// RetrieveBearerToken is like [Provider.Token] and also reports when the token
// expires: after the time of [WithExpiry], or with its credentials if that is
// earlier.
func (provider *Provider) RetrieveBearerToken(ctx context.Context) (bearer.Token, error) {
	token, _, err := provider.sign(ctx)
	return token, err
}

// sign returns a token and the credentials that signed it.
func (provider *Provider) sign(ctx context.Context) (token bearer.Token, creds aws.Credentials, err error) {
	if err := contextError(ctx); err != nil {
		return token, creds, err
	}
	if provider == nil || provider.signer == nil {
		return token, creds, errNotMade
	}
	own := provider.signer()
	creds, err = own.source.Retrieve(ctx)
	switch ctxErr := contextError(ctx); {
	case ctxErr != nil:
		return token, creds, ctxErr
	case err != nil:
		return token, creds, sourceError("", err)
	}
	token, err = own.sign(ctx, creds)
	return token, creds, err
}
