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
// variable AWS_BEARER_TOKEN_BEDROCK, which the AWS SDKs read. A program that outlives
// the token should use a [Provider].
//
// Errors match [ErrRegion], [ErrCredentials] or [ErrExpiry], or that of ctx.
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
	return http.Request{
		// As in the official generators: the service recomputes the signature
		// of a POST to this host. On 2026-09-02 it refused a token signed as a
		// GET, and one for a regional host.
		Method: http.MethodPost,
		URL: &url.URL{
			Scheme:   "https",
			Host:     "bedrock.amazonaws.com",
			Path:     "/",
			RawQuery: "Action=CallWithBearerToken&X-Amz-Expires=" + strconv.FormatInt(int64(expiry/time.Second), 10),
		},
		Header: http.Header{},
	}
}

// A signer presigns tokens for a region. It keeps the last one: the time in a
// token has a resolution of a second, so signing again within the second would
// produce the same bytes.
type signer struct {
	region  string
	expiry  time.Duration
	request http.Request
	source  aws.CredentialsProvider

	mu   sync.Mutex
	last struct {
		credentials aws.Credentials
		second      int64
		token       bearer.Token
	}
}

// sign returns a token that creds sign.
func (s *signer) sign(ctx context.Context, creds aws.Credentials) (bearer.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Unix() == s.last.second && creds == s.last.credentials {
		return s.last.token, nil
	}
	if err := checkKeys(creds); err != nil {
		return bearer.Token{}, sourceError("", err)
	}
	now = now.UTC().Truncate(time.Second) // the resolution of X-Amz-Date
	// The SDK's signer remembers derived keys by access key ID and not by secret:
	// a shared one would go on signing with a secret that was replaced.
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, &s.request, emptyPayloadHash, "bedrock", s.region, now)
	if err != nil {
		return bearer.Token{}, fmt.Errorf("bedrocktoken: presign: %w", err)
	}
	token := bearer.Token{Value: encode(signed), CanExpire: true, Expires: now.Add(s.expiry)}
	if creds.CanExpire && creds.Expires.Before(token.Expires) {
		token.Expires = creds.Expires
	}
	s.last.credentials, s.last.second, s.last.token = creds, now.Unix(), token
	return token, nil
}

// encode returns the token for a presigned URL. Its buffers are on the stack.
func encode(signed string) string {
	plain := append(make([]byte, 0, 4096), strings.TrimPrefix(signed, "https://")...)
	value := append(make([]byte, 0, 4096), "bedrock-api-key-"...)
	return string(base64.StdEncoding.AppendEncode(value, append(plain, "&Version=1"...)))
}

// checkKeys returns an error if creds are incomplete or contain characters that no
// key has. The SDK's signer does not check. The error does not quote them.
func checkKeys(creds aws.Credentials) error {
	if len(creds.AccessKeyID) == 40 && len(creds.SecretAccessKey) == 20 { // a token shows its access key ID
		return notTakenError("the access key ID and the secret access key seem to be swapped")
	}
	temporary := strings.HasPrefix(creds.AccessKeyID, "ASIA")
	for _, field := range [...]struct{ name, value string }{
		{"access key ID", creds.AccessKeyID},
		{"secret access key", creds.SecretAccessKey},
		{"session token", creds.SessionToken},
	} {
		switch value := field.value; {
		case value == "" && (temporary || field.name != "session token"):
			return notTakenError("the " + field.name + " is missing")
		case strings.HasPrefix(value, "$"), strings.Trim(value, "\"'`") != value:
			return notTakenError("the " + field.name + " has quotes around it or begins with $: only a shell would replace them")
		}
		for _, c := range []byte(field.value) {
			if c < '!' || c > '~' {
				return notTakenError("the " + field.name + " contains a space, a line break or another character that cannot be part of it")
			}
		}
	}
	return nil
}
