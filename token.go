package bedrocktoken

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/auth/bearer"
)

// ProvideToken returns a token, for the Authorization header or the environment
// variable AWS_BEARER_TOKEN_BEDROCK, which the AWS SDKs read. A program that runs
// for longer than the token lasts should use a [Provider].
//
// The error is [ErrRegion], [ErrCredentials], [ErrExpiry] or that of ctx once it is
// done. A nil ctx and conflicting options are errors, too.
func ProvideToken(ctx context.Context, opts ...Option) (string, error) {
	p, err := NewProvider(ctx, opts...)
	if err != nil {
		return "", err
	}
	return p.Token(ctx)
}

// emptyPayloadHash is the SHA-256 of no bytes at all. The service refused
// UNSIGNED-PAYLOAD on 2026-09-02.
const emptyPayloadHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// unsignedRequest returns the request that is presigned to make a token.
func unsignedRequest(expiry time.Duration) http.Request {
	query := append(make([]byte, 0, 64), "Action=CallWithBearerToken&X-Amz-Expires="...)
	query = strconv.AppendInt(query, int64(expiry/time.Second), 10)
	return http.Request{
		// As in the official generators: the service recomputes the signature
		// of a POST to this host. On 2026-09-02 it refused a token signed as a
		// GET, and one for a regional host.
		Method: http.MethodPost,
		URL: &url.URL{
			Scheme:   "https",
			Host:     "bedrock.amazonaws.com",
			Path:     "/",
			RawQuery: string(query),
		},
		Header: http.Header{},
	}
}

// A signer makes one token a second. Another made in that second would be the
// same, byte for byte, but cost a hundred times as much.
type signer struct {
	region      string
	expiry      time.Duration
	request     http.Request
	credentials retrieveFunc

	mu   sync.Mutex
	last struct {
		credentials aws.Credentials
		second      int64
		token       bearer.Token
	}
}

func (s *signer) token(ctx context.Context) (bearer.Token, error) {
	creds, now, err := s.credentials(ctx)
	if ctxErr := contextError(ctx); ctxErr != nil {
		return bearer.Token{}, ctxErr
	}
	if err != nil {
		return bearer.Token{}, credentialsError(err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Unix() == s.last.second && creds == s.last.credentials {
		return s.last.token, nil
	}
	if err := checkKeys(creds); err != nil {
		return bearer.Token{}, credentialsError(err)
	}
	now = now.UTC().Truncate(time.Second) // as the token says it
	value, err := s.presign(ctx, creds, now)
	if err != nil {
		return bearer.Token{}, err
	}
	token := bearer.Token{Value: value, CanExpire: true, Expires: now.Add(s.expiry)}
	if creds.CanExpire && creds.Expires.Before(token.Expires) {
		token.Expires = creds.Expires.Round(0).UTC()
	}
	s.last.credentials, s.last.second, s.last.token = creds, now.Unix(), token
	return token, nil
}

func (s *signer) presign(ctx context.Context, creds aws.Credentials, now time.Time) (string, error) {
	// The SDK's signer remembers derived keys by access key ID and not by secret:
	// a shared one would go on signing with a secret that was replaced.
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, &s.request, emptyPayloadHash, "bedrock", s.region, now)
	if err != nil {
		return "", fmt.Errorf("bedrocktoken: presign: %w", err)
	}
	signed = strings.TrimPrefix(signed, "https://")
	whole := len(signed) / 3 * 3 // without padding
	token := append(make([]byte, 0, 4096), "bedrock-api-key-"...)
	token = base64.StdEncoding.AppendEncode(token, []byte(signed[:whole]))
	token = base64.StdEncoding.AppendEncode(token, []byte(signed[whole:]+"&Version=1"))
	return string(token), nil
}
