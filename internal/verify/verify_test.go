package verify_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const (
	accessKeyID  = "AKIAIOSFODNN7EXAMPLE"
	secretKey    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sessionToken = "session/token+with=signs"
	emptyHash    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

var errUnknown = errors.New("no such key")

var service = verify.Service{Region: "us-east-1", Secret: func(id, session string) (string, error) {
	if id != accessKeyID || session != sessionToken {
		return "", errUnknown
	}
	return secretKey, nil
}}

// A recipe is what a token is made from.
type recipe struct {
	prefix, method, url, payloadHash, service, region, secret, suffix string
	age                                                               time.Duration
}

func good() recipe {
	return recipe{
		prefix:      "bedrock-api-key-",
		method:      "POST",
		url:         "https://bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Expires=3600",
		payloadHash: emptyHash,
		service:     "bedrock",
		region:      "us-east-1",
		secret:      secretKey,
		suffix:      "&Version=1",
	}
}

// signed returns what the SDK's signer makes of r, before it is encoded.
func (r recipe) signed(t *testing.T) string {
	t.Helper()
	request, err := http.NewRequest(r.method, r.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: r.secret, SessionToken: sessionToken}
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), creds, request, r.payloadHash, r.service, r.region, time.Now().Add(-r.age))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(signed, "https://") + r.suffix
}

func (r recipe) token(t *testing.T) string {
	t.Helper()
	return r.prefix + encode(r.signed(t))
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestVerify(t *testing.T) {
	tests := map[string]struct {
		change func(*recipe)
		want   error
	}{
		"good":               {func(*recipe) {}, nil},
		"last second":        {func(r *recipe) { r.age = 3599 * time.Second }, nil},
		"clock ahead":        {func(r *recipe) { r.age = -verify.Skew }, nil},
		"expired":            {func(r *recipe) { r.age = time.Hour }, verify.ErrExpired},
		"future":             {func(r *recipe) { r.age = -verify.Skew - time.Second }, verify.ErrNotYetValid},
		"GET":                {func(r *recipe) { r.method = "GET" }, verify.ErrSignature},
		"UNSIGNED-PAYLOAD":   {func(r *recipe) { r.payloadHash = "UNSIGNED-PAYLOAD" }, verify.ErrSignature},
		"another secret":     {func(r *recipe) { r.secret += "x" }, verify.ErrSignature},
		"another region":     {func(r *recipe) { r.region = "us-west-2" }, verify.ErrRegion},
		"another service":    {func(r *recipe) { r.service = "sts" }, verify.ErrMalformed},
		"regional host":      {func(r *recipe) { r.url = strings.Replace(r.url, "bedrock.", "bedrock.us-east-1.", 1) }, verify.ErrHost},
		"another path":       {func(r *recipe) { r.url = strings.Replace(r.url, "/?", "/x?", 1) }, verify.ErrHost},
		"another action":     {func(r *recipe) { r.url = strings.Replace(r.url, "CallWith", "Call", 1) }, verify.ErrMalformed},
		"no expiry":          {func(r *recipe) { r.url, _, _ = strings.Cut(r.url, "&") }, verify.ErrMalformed},
		"expiry of 0":        {func(r *recipe) { r.url = strings.Replace(r.url, "3600", "0", 1) }, verify.ErrMalformed},
		"expiry over 12 h":   {func(r *recipe) { r.url = strings.Replace(r.url, "3600", "43201", 1) }, verify.ErrMalformed},
		"unknown parameter":  {func(r *recipe) { r.url += "&X=1" }, verify.ErrMalformed},
		"parameter twice":    {func(r *recipe) { r.url += "&Action=CallWithBearerToken" }, verify.ErrMalformed},
		"no version":         {func(r *recipe) { r.suffix = "" }, verify.ErrVersion},
		"another version":    {func(r *recipe) { r.suffix = "&Version=2" }, verify.ErrVersion},
		"no prefix":          {func(r *recipe) { r.prefix = "" }, verify.ErrMalformed},
		"line break":         {func(r *recipe) { r.prefix += "\n" }, verify.ErrMalformed},
		"not base64":         {func(r *recipe) { r.prefix += "!" }, verify.ErrMalformed},
		"version in the sum": {func(r *recipe) { r.url += r.suffix; r.suffix = "" }, verify.ErrSignature},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := good()
				test.change(&r)
				got, err := service.Verify(r.token(t))
				if !errors.Is(err, test.want) {
					t.Fatalf("error is %v, want %v", err, test.want)
				}
				if err != nil {
					return
				}
				want := verify.Token{
					AccessKeyID: accessKeyID, SessionToken: sessionToken, Region: "us-east-1",
					SigningTime: time.Now().UTC().Add(-r.age), Expiry: time.Hour,
				}
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestVerifyChangedByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signed := good().signed(t)
		if _, err := service.Verify("bedrock-api-key-" + encode(signed)); err != nil {
			t.Fatal(err)
		}
		for i := range len(signed) {
			changed := []byte(signed)
			changed[i] ^= 1
			if _, err := service.Verify("bedrock-api-key-" + encode(string(changed))); err == nil {
				t.Errorf("accepted with byte %d changed: %q", i, changed)
			}
		}
	})
}

func TestVerifyOtherClock(t *testing.T) {
	for ahead, want := range map[time.Duration]error{
		-verify.Skew:               nil,
		-verify.Skew - time.Second: verify.ErrNotYetValid,
		time.Hour - time.Second:    nil,
		time.Hour:                  verify.ErrExpired,
	} {
		synctest.Test(t, func(t *testing.T) {
			other := service
			other.ClockAhead = ahead
			if _, err := other.Verify(good().token(t)); !errors.Is(err, want) {
				t.Errorf("%v ahead: error is %v, want %v", ahead, err, want)
			}
		})
	}
}

func TestVerifyUnknownCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nobody := service
		nobody.Secret = func(string, string) (string, error) { return "", errUnknown }
		_, err := nobody.Verify(good().token(t))
		if !errors.Is(err, verify.ErrCredentials) || !errors.Is(err, errUnknown) {
			t.Errorf("error is %v", err)
		}
	})
}
