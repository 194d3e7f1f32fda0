package bedrocktoken

import (
	"context"
	"encoding/base64"
	"errors"
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
// variable AWS_BEARER_TOKEN_BEDROCK, which the AWS SDKs read. It has the name of
// the official generators' function. A program that runs for longer than the token
// lasts should use a [Provider].
//
// Errors match [ErrRegion], [ErrCredentials] or [ErrExpiry], or are those of ctx.
func ProvideToken(ctx context.Context, opts ...Option) (string, error) {
	provider, err := NewProvider(ctx, opts...)
	if err != nil {
		return "", err
	}
	return provider.Token(ctx)
}

// emptyPayloadHash is the SHA-256 hash of an empty body. The service refused
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

// A signer presigns tokens for a region. It keeps the last one: the time in a
// token has a resolution of a second, so signing again within the second would
// produce the same bytes.
type signer struct {
	region      string
	expiry      time.Duration
	request     http.Request
	credentials aws.CredentialsProvider

	mu   sync.Mutex
	last struct {
		credentials aws.Credentials
		second      int64
		token       bearer.Token
	}
}

func newSigner(region string, expiry time.Duration, credentials aws.CredentialsProvider) *signer {
	return &signer{region: region, expiry: expiry, request: unsignedRequest(expiry), credentials: credentials}
}

// sign returns a token and the credentials that signed it.
func (s *signer) sign(ctx context.Context) (bearer.Token, aws.Credentials, error) {
	creds, err := s.credentials.Retrieve(ctx)
	if ctxErr := contextError(ctx); ctxErr != nil {
		return bearer.Token{}, aws.Credentials{}, ctxErr
	}
	if err != nil {
		return bearer.Token{}, aws.Credentials{}, sourceError("", err)
	}
	token, err := s.tokenOf(ctx, creds)
	return token, creds, err
}

func (s *signer) tokenOf(ctx context.Context, creds aws.Credentials) (bearer.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Unix() == s.last.second && creds == s.last.credentials {
		return s.last.token, nil
	}
	if err := checkKeys(creds); err != nil {
		return bearer.Token{}, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	now = now.UTC().Truncate(time.Second) // the resolution of X-Amz-Date
	value, err := s.presign(ctx, creds, now)
	if err != nil {
		return bearer.Token{}, err
	}
	token := bearer.Token{Value: value, CanExpire: true, Expires: now.Add(s.expiry)}
	if creds.CanExpire && creds.Expires.Before(token.Expires) {
		token.Expires = wallClock(creds.Expires)
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
	// Encode the longest part that needs no padding where it lies, and the rest with
	// its suffix, so as not to copy the URL.
	unpadded := len(signed) / 3 * 3
	token := append(make([]byte, 0, 4096), "bedrock-api-key-"...)
	token = base64.StdEncoding.AppendEncode(token, []byte(signed[:unpadded]))
	token = base64.StdEncoding.AppendEncode(token, []byte(signed[unpadded:]+"&Version=1"))
	return string(token), nil
}

// checkKeys returns an error if creds are incomplete or contain characters that no
// key has. The SDK's signer does not check. The error does not quote them.
func checkKeys(creds aws.Credentials) error {
	switch {
	case creds.AccessKeyID == "" && creds.SecretAccessKey == "":
		return errors.New("both access key ID and secret access key are missing")
	case creds.AccessKeyID == "":
		return errors.New("the access key ID is missing")
	case creds.SecretAccessKey == "":
		return errors.New("the secret access key is missing")
	case creds.SessionToken == "" && strings.HasPrefix(creds.AccessKeyID, "ASIA"):
		return errors.New("the session token is missing: an access key ID that begins with ASIA is that of temporary credentials")
	}
	for _, field := range [...]struct{ name, value string }{
		{"access key ID", creds.AccessKeyID},
		{"secret access key", creds.SecretAccessKey},
		{"session token", creds.SessionToken},
	} {
		for _, c := range []byte(field.value) {
			if c < '!' || c > '~' {
				return fmt.Errorf("the %s contains a space, a line break or another character that cannot be part of it", field.name)
			}
		}
	}
	return nil
}
