package bedrocktoken

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/auth/bearer"
)

// A Provider creates tokens and renews the credentials that sign them, as the
// package documentation describes. Create one with [NewProvider] when the program
// starts and share it: it is safe for concurrent use.
//
// A Provider is a [bearer.TokenProvider]. Formatting one with fmt reveals no
// secrets.
type Provider struct {
	signer func() *signer // a func, because fmt's %s prints what a pointer points to
}

var _ bearer.TokenProvider = (*Provider)(nil)

// NewProvider returns a [Provider]. It reads the environment and the shared config
// files unless opts supply both region and credentials. It does not retrieve
// credentials, so the first call to [Provider.Token] may report that they are
// missing. The errors are those of [ProvideToken].
func NewProvider(ctx context.Context, opts ...Option) (*Provider, error) {
	if err := contextError(ctx); err != nil {
		return nil, err
	}
	o, err := resolve(ctx, opts)
	if err != nil {
		return nil, err
	}
	return providerOf(newSigner(o.region, o.expiry, cached(o.source, o.handle))), nil
}

func providerOf(s *signer) *Provider {
	return &Provider{signer: func() *signer { return s }}
}

// errNotMade is the error of a Provider that NewProvider did not make.
var errNotMade = fmt.Errorf("%w: this Provider was not made by NewProvider", ErrCredentials)

// ForRegion returns a [Provider] for another region with the same credentials and
// expiry: one retrieval and one renewal serve both. Use it to fail over between
// regions. The error is [ErrRegion], or [ErrCredentials] if NewProvider did not
// make provider.
func (provider *Provider) ForRegion(region string) (*Provider, error) {
	if provider == nil || provider.signer == nil {
		return nil, errNotMade
	}
	if err := checkRegion(region); err != nil {
		return nil, err
	}
	own := provider.signer()
	return providerOf(newSigner(region, own.expiry, own.source)), nil
}

// Region returns the region the tokens are valid in, for building endpoint URLs.
func (provider *Provider) Region() string {
	if provider == nil || provider.signer == nil {
		return ""
	}
	return provider.signer().region
}

// Token returns a token for immediate use. Ask for one before each request: it
// costs nothing. If ctx is done first, the error is ctx's; otherwise it matches
// [ErrCredentials].
func (provider *Provider) Token(ctx context.Context) (string, error) {
	token, _, err := provider.sign(ctx)
	return token.Value, err
}

// RetrieveBearerToken is like [Provider.Token] and also reports when the token
// expires: after the time set by [WithExpiry], or with the credentials that
// signed it if that is earlier.
func (provider *Provider) RetrieveBearerToken(ctx context.Context) (bearer.Token, error) {
	token, _, err := provider.sign(ctx)
	return token, err
}

// sign returns a token and the credentials that signed it.
func (provider *Provider) sign(ctx context.Context) (bearer.Token, aws.Credentials, error) {
	if err := contextError(ctx); err != nil {
		return bearer.Token{}, aws.Credentials{}, err
	}
	if provider == nil || provider.signer == nil {
		return bearer.Token{}, aws.Credentials{}, errNotMade
	}
	return provider.signer().sign(ctx)
}

// refuse says that the service refused a token signed with creds.
func (provider *Provider) refuse(creds aws.Credentials) {
	if renewer, ok := provider.signer().source.(*renewer); ok {
		renewer.refuse(creds)
	}
}
