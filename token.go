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
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Errors that [ProvideToken], [NewProvider] and the methods of [Provider]
// return, always with what was wrong added: test for them with [errors.Is].
var (
	// ErrRegion says that no region was found, or that what was given cannot be
	// the name of one.
	ErrRegion = errors.New("bedrocktoken: no valid region")

	// ErrCredentials says that there are no credentials to sign with: none were
	// found, their source failed, a key is missing or malformed, or they have
	// expired. errors.Is and errors.As also find the source's own error.
	ErrCredentials = errors.New("bedrocktoken: no valid credentials")

	// ErrExpiry says that the expiry is not from 1 second to 12 hours.
	ErrExpiry = errors.New("bedrocktoken: invalid expiry")
)

// ProvideToken returns one short-term Bedrock API key: a bearer token for the
// Authorization header, or for the environment variable
// AWS_BEARER_TOKEN_BEDROCK that the AWS SDKs read. By default region and
// credentials come from the SDK's default chain and the token lives for 12
// hours; see the options.
//
// A token cannot be renewed and dies with the credentials that signed it, often
// within the hour. A program that runs for longer than that should keep a
// [Provider] and ask it for a token at each request.
//
// The error is [ErrRegion], [ErrCredentials], [ErrExpiry], that of a ctx that is
// nil or has ended, or one that says which options contradict each other.
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

// unsignedRequest returns the request that a token is the presigned form of.
func unsignedRequest(expiry time.Duration) *http.Request {
	seconds := strconv.FormatInt(int64(expiry/time.Second), 10)
	return &http.Request{
		// As the official generators have it: the service recomputes the
		// signature of a POST to this host. It refused a token that was signed
		// as a GET, and one for a regional host, on 2026-09-02.
		Method: http.MethodPost,
		URL: &url.URL{
			Scheme:   "https",
			Host:     "bedrock.amazonaws.com",
			Path:     "/",
			RawQuery: "Action=CallWithBearerToken&X-Amz-Expires=" + seconds,
		},
		Header: http.Header{},
	}
}

// presign returns the token that request, credentials, region and time make.
func presign(ctx context.Context, request *http.Request, creds aws.Credentials, region string, now time.Time) (string, error) {
	// A signer remembers derived keys by access key ID and not by secret: a
	// shared one would go on signing with a secret that was replaced.
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, request, emptyPayloadHash, "bedrock", region, now)
	if err != nil {
		return "", fmt.Errorf("bedrocktoken: presign: %w", err)
	}
	signed = strings.TrimPrefix(signed, "https://") + "&Version=1"
	return string(base64.StdEncoding.AppendEncode([]byte("bedrock-api-key-"), []byte(signed))), nil
}
