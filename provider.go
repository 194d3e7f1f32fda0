package bedrocktoken

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/auth/bearer"
)

// A Provider signs a fresh token on every call, for as long as the program
// runs. Make one with [NewProvider] at start-up and share it: it is safe for
// concurrent use.
//
// It holds credentials, never tokens. Signing is local and takes microseconds,
// and a kept token would still be sent after its credentials were rotated or
// revoked, and be refused. To reuse tokens all the same, wrap the Provider:
//
//	bearer.NewTokenCache(p, func(o *bearer.TokenCacheOptions) { o.RefreshBeforeExpires = time.Minute })
//
// Credentials that expire are renewed by the first call in the last twelfth of
// the life they had when retrieved, but never more than 5 minutes or less than
// 1 minute before their end. However many callers wait, there is one retrieval.
// If it fails, the Provider goes on signing with the credentials that it holds
// and tries again after 10 seconds; once those have expired, callers get the
// source's error, and a token again as soon as the source answers. If it hangs,
// callers wait for 3 seconds, or for half the time that their context has left,
// and then go on in the same way. Credentials that do not expire are retrieved
// once: after rotating such keys, make a new Provider.
//
// This holds for the SDK's default chain and for every source except an
// [*aws.CredentialsCache], including that of [WithConfig], which is used as it is.
//
// A caller whose context is cancelled returns at once with the context's error,
// even while the source hangs; other callers that wait are not affected.
//
// A Provider is a [bearer.TokenProvider], so it can be given to the clients of
// the AWS SDK. No verb of fmt prints a secret of it. The zero value is not usable:
// its methods return [ErrCredentials].
type Provider struct {
	region      string
	expiry      time.Duration
	request     *http.Request
	credentials aws.CredentialsProviderFunc
}

var _ bearer.TokenProvider = (*Provider)(nil)

// NewProvider resolves region and credentials provider once and returns a
// [Provider] for them. It reads the environment and the shared config files
// only for what the options do not give, and retrieves no credentials yet.
//
// The errors are those of [ProvideToken]. Missing credentials may be reported
// here or by the first token.
func NewProvider(ctx context.Context, opts ...Option) (*Provider, error) {
	if err := contextError(ctx); err != nil {
		return nil, err
	}
	o, err := resolve(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &Provider{
		region:      o.region,
		expiry:      o.expiry,
		request:     unsignedRequest(o.expiry),
		credentials: cached(o.credentials),
	}, nil
}

// Token returns a fresh token. The error is [ErrCredentials] or that of a
// cancelled ctx.
func (p *Provider) Token(ctx context.Context) (string, error) {
	token, err := p.RetrieveBearerToken(ctx)
	return token.Value, err
}

// RetrieveBearerToken returns a fresh token and when it dies: at the end of its
// expiry or of the credentials that signed it, whichever is earlier. It
// implements [bearer.TokenProvider]. The errors are those of [Provider.Token].
func (p *Provider) RetrieveBearerToken(ctx context.Context) (bearer.Token, error) {
	if err := contextError(ctx); err != nil {
		return bearer.Token{}, err
	}
	if p == nil || p.credentials == nil {
		return bearer.Token{}, fmt.Errorf("%w: this Provider was not made by NewProvider", ErrCredentials)
	}
	creds, err := p.credentials(ctx)
	if ctxErr := contextError(ctx); ctxErr != nil {
		return bearer.Token{}, ctxErr
	}
	now := time.Now()
	if err == nil {
		err = checkCredentials(creds, now)
	}
	if err != nil {
		return bearer.Token{}, credentialsError{err}
	}
	now = now.UTC().Truncate(time.Second) // as the token says it
	value, err := presign(ctx, p.request, creds, p.region, now)
	if err != nil {
		return bearer.Token{}, err
	}
	expires := now.Add(p.expiry)
	if creds.CanExpire && creds.Expires.Before(expires) {
		expires = creds.Expires.Round(0).UTC()
	}
	return bearer.Token{Value: value, CanExpire: true, Expires: expires}, nil
}

func contextError(ctx context.Context) error {
	if ctx == nil {
		return errors.New("bedrocktoken: the context is nil")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bedrocktoken: %w", err)
	}
	return nil
}
