// Package verify judges bearer tokens as Bedrock does. It is written from the
// SigV4 specification and the standard library alone, and shares no code with
// the package that it checks.
//
// The specification: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
package verify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Why a token is refused.
var (
	ErrMalformed   = errors.New("malformed token")
	ErrHost        = errors.New("wrong host or path")
	ErrVersion     = errors.New("wrong version")
	ErrRegion      = errors.New("wrong region")
	ErrExpired     = errors.New("expired token")
	ErrNotYetValid = errors.New("token from the future")
	ErrCredentials = errors.New("unknown credentials")
	ErrSignature   = errors.New("wrong signature")
)

// Skew is how far ahead of the service's clock a signer's may be.
const Skew = 5 * time.Minute

// A Service accepts the tokens of one region.
type Service struct {
	Region string
	// Secret returns the secret access key that belongs to an access key ID and
	// session token, or why there is none.
	Secret func(accessKeyID, sessionToken string) (string, error)
	// ClockAhead is how far the service's clock is ahead of the machine's.
	ClockAhead time.Duration
}

// Now is the time by the service's clock.
func (s Service) Now() time.Time { return time.Now().Add(s.ClockAhead) }

// A Token is what an accepted token says.
type Token struct {
	AccessKeyID  string
	SessionToken string
	Region       string
	SigningTime  time.Time
	Expiry       time.Duration
}

// Verify accepts token now or says why it does not.
func (s Service) Verify(token string) (Token, error) {
	target, query, err := Decode(token)
	if err != nil {
		return Token{}, err
	}
	if target != "bedrock.amazonaws.com/" {
		return Token{}, fmt.Errorf("%w: %q", ErrHost, target)
	}

	// Each parameter once, and none besides: what is not known is not signed by
	// anybody with good intentions.
	known := []string{
		"Action", "Version", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date",
		"X-Amz-Expires", "X-Amz-Security-Token", "X-Amz-Signature", "X-Amz-SignedHeaders",
	}
	for name, values := range query {
		if !slices.Contains(known, name) || len(values) != 1 {
			return Token{}, fmt.Errorf("%w: parameter %q, %d times", ErrMalformed, name, len(values))
		}
	}
	if version := query.Get("Version"); version != "1" {
		return Token{}, fmt.Errorf("%w: %q", ErrVersion, version)
	}
	for name, want := range map[string]string{
		"Action":              "CallWithBearerToken",
		"X-Amz-Algorithm":     "AWS4-HMAC-SHA256",
		"X-Amz-SignedHeaders": "host",
	} {
		if got := query.Get(name); got != want {
			return Token{}, fmt.Errorf("%w: %s is %q", ErrMalformed, name, got)
		}
	}
	if query.Has("X-Amz-Security-Token") && query.Get("X-Amz-Security-Token") == "" {
		return Token{}, fmt.Errorf("%w: empty X-Amz-Security-Token", ErrMalformed)
	}

	signingTime, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if err != nil {
		return Token{}, fmt.Errorf("%w: X-Amz-Date: %w", ErrMalformed, err)
	}
	seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
	if err != nil || seconds < 1 || seconds > 43200 {
		return Token{}, fmt.Errorf("%w: X-Amz-Expires is %q", ErrMalformed, query.Get("X-Amz-Expires"))
	}
	expiry := time.Duration(seconds) * time.Second

	accessKeyID, scope, ok := cutCredential(query.Get("X-Amz-Credential"))
	if !ok || scope.date != signingTime.Format("20060102") || scope.service != "bedrock" || scope.end != "aws4_request" {
		return Token{}, fmt.Errorf("%w: X-Amz-Credential is %q", ErrMalformed, query.Get("X-Amz-Credential"))
	}
	if scope.region != s.Region {
		return Token{}, fmt.Errorf("%w: signed for %q, used in %q", ErrRegion, scope.region, s.Region)
	}

	secret, err := s.Secret(accessKeyID, query.Get("X-Amz-Security-Token"))
	if err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	want := sign("POST", query, scope, secret)
	if !hmac.Equal([]byte(want), []byte(query.Get("X-Amz-Signature"))) {
		return Token{}, ErrSignature
	}

	now := s.Now()
	if now.Before(signingTime.Add(-Skew)) {
		return Token{}, fmt.Errorf("%w: signed at %v", ErrNotYetValid, signingTime)
	}
	if !now.Before(signingTime.Add(expiry)) {
		return Token{}, fmt.Errorf("%w: signed at %v for %v", ErrExpired, signingTime, expiry)
	}
	return Token{
		AccessKeyID:  accessKeyID,
		SessionToken: query.Get("X-Amz-Security-Token"),
		Region:       scope.region,
		SigningTime:  signingTime,
		Expiry:       expiry,
	}, nil
}

// Decode returns the host and path of a token, and its parameters.
func Decode(token string) (target string, query url.Values, err error) {
	encoded, ok := strings.CutPrefix(token, "bedrock-api-key-")
	if !ok || strings.ContainsAny(encoded, "\r\n") { // which encoding/base64 passes over
		return "", nil, fmt.Errorf("%w: the prefix is missing, or there is a line break", ErrMalformed)
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	target, rawQuery, _ := strings.Cut(string(decoded), "?")
	query, err = url.ParseQuery(rawQuery)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return target, query, nil
}

type credentialScope struct{ date, region, service, end string }

func (s credentialScope) String() string {
	return strings.Join([]string{s.date, s.region, s.service, s.end}, "/")
}

// cutCredential splits from the end: an access key ID may have a slash.
func cutCredential(credential string) (accessKeyID string, scope credentialScope, ok bool) {
	parts := strings.Split(credential, "/")
	n := len(parts) - 4
	if n < 1 {
		return "", credentialScope{}, false
	}
	scope = credentialScope{date: parts[n], region: parts[n+1], service: parts[n+2], end: parts[n+3]}
	return strings.Join(parts[:n], "/"), scope, true
}

// sign computes the signature of a request without a body to the token's host.
func sign(method string, query url.Values, scope credentialScope, secret string) string {
	var params []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		// Version is put behind the signed URL.
		if name != "X-Amz-Signature" && name != "Version" {
			params = append(params, escape(name)+"="+escape(query.Get(name)))
		}
	}

	canonicalRequest := strings.Join([]string{
		method,
		"/",
		strings.Join(params, "&"),
		"host:bedrock.amazonaws.com\n",
		"host",
		hexSHA256(""),
	}, "\n")
	stringToSign := strings.Join([]string{
		"AWS4-HMAC-SHA256",
		query.Get("X-Amz-Date"),
		scope.String(),
		hexSHA256(canonicalRequest),
	}, "\n")

	key := []byte("AWS4" + secret)
	for _, part := range []string{scope.date, scope.region, scope.service, scope.end, stringToSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// escape encodes every byte but the unreserved ones of RFC 3986.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
