package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// chainOf returns err and all that it wraps.
func chainOf(err error) []error {
	chain := []error{err}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		if cause := wrapper.Unwrap(); cause != nil {
			chain = append(chain, chainOf(cause)...)
		}
	case interface{ Unwrap() []error }:
		for _, cause := range wrapper.Unwrap() {
			chain = append(chain, chainOf(cause)...)
		}
	}
	return chain
}

// The error of a source is wrapped, by a raw provider as by one in a cache.
func TestErrorWrapsTheSource(t *testing.T) {
	t.Run("failing source", func(t *testing.T) {
		failing := failing(fmt.Errorf("the source says: %w", &sourceError{code: 42}))
		for kind, provider := range map[string]aws.CredentialsProvider{"raw": failing, "cached": aws.NewCredentialsCache(failing)} {
			token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(provider))
			var cause *sourceError
			if !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.As(err, &cause) || cause.code != 42 || token != "" {
				t.Errorf("%s: got %q and error %v, want ErrCredentials around a sourceError", kind, token, err)
			}
		}
	})
	// A source's own timeout does not mean that the caller's context is done.
	t.Run("source timed out", func(t *testing.T) {
		_, err := newProvider(t, failing(context.DeadlineExceeded)).Token(t.Context())
		if !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
	})
}

type sourceError struct{ code int }

func (e *sourceError) Error() string { return "code " + strconv.Itoa(e.code) }

// No error shows what a credential_process printed, which may be the keys, nor does
// any error that it wraps. The SDK's own errors quote the output.
func TestErrorHidesProcessOutput(t *testing.T) {
	output := filepath.Join(t.TempDir(), "output")
	for name, printed := range map[string]string{
		"more than JSON":     "a warning\n" + `{"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
		"wrong type":         `{"Version": "1", "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
		"wrong time":         `{"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `", "Expiration": "soon"}`,
		"wrong version":      `{"Version": 2, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
		"no access key ID":   `{"Version": 1, "SecretAccessKey": "` + secretKey + `"}`,
		"nothing but a key":  secretKey,
		"half of the answer": `{"Version": 1, "SecretAccessKey": "` + secretKey,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(output, []byte(printed), 0o600); err != nil {
				t.Fatal(err)
			}
			awstest.WriteConfig(t, `
[default]
credential_process = `+printing(output)+`
[profile role]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = default
`)
			for _, profile := range []string{"", "role"} {
				_, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithProfile(profile))
				if !errors.Is(err, bedrocktoken.ErrCredentials) || !strings.Contains(err.Error(), "credential_process: ") {
					t.Fatalf("error is %v", err)
				}
				if strings.Count(err.Error(), "failed to refresh cached credentials") != 1 {
					t.Errorf("not once \"failed to refresh cached credentials\": %v", err)
				}
				var process *processcreds.ProviderError
				if errors.As(err, &process) {
					t.Errorf("the process's error, output and all, is in the chain")
				}
				for _, e := range chainOf(err) {
					for _, verb := range []string{"%v", "%+v", "%#v"} {
						if text := fmt.Sprintf(verb, e); strings.Contains(text, secretKey[:20]) {
							t.Errorf("%s of a %T shows the output: %s", verb, e, text)
						}
					}
				}
			}
		})
	}

	t.Run("not there", func(t *testing.T) {
		awstest.WriteConfig(t, "[default]\ncredential_process = /does/not/exist\n")
		_, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region))
		if !errors.Is(err, bedrocktoken.ErrCredentials) || !strings.Contains(err.Error(), "credential_process: exit status") {
			t.Errorf("error is %v", err)
		}
	})
	// A source may wrap it in a text in which the output cannot be found.
	t.Run("wrapped", func(t *testing.T) {
		cause := errors.New("the cause")
		inner := &processcreds.ProviderError{Err: fmt.Errorf("output %s: %w", secretKey, cause)}
		for _, err := range []error{
			fmt.Errorf("before %q: %w", inner.Error(), inner),
			fmt.Errorf("before %s, failed to refresh cached credentials, %w", inner.Error(), inner),
			errors.Join(inner, inner),
			hiding{inner},
		} {
			_, err := newProvider(t, failing(err)).Token(t.Context())
			if !errors.Is(err, cause) || strings.Contains(err.Error(), secretKey) || !strings.Contains(err.Error(), "the cause") {
				t.Errorf("error is %v", err)
			}
		}
	})
	t.Run("nil", func(t *testing.T) {
		for _, err := range []error{(*processcreds.ProviderError)(nil), &processcreds.ProviderError{}} {
			_, err := newProvider(t, failing(err)).Token(t.Context())
			if !errors.Is(err, bedrocktoken.ErrCredentials) || err.Error() == "" {
				t.Errorf("error is %v", err)
			}
		}
	})
}

// An error of a source that is a nil pointer or cannot be compared causes no panic.
func TestOddErrorsCauseNoPanic(t *testing.T) {
	for name, odd := range map[string]error{
		"nil pointer":    (*url.Error)(nil),
		"another one":    (*os.PathError)(nil),
		"not comparable": uncomparable{"a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			provider := newProvider(t, failing(odd))
			_, one := provider.Token(t.Context())
			_, two := provider.Token(t.Context())
			if !errors.Is(one, bedrocktoken.ErrCredentials) || one.Error() == "" {
				t.Errorf("error is %v", one)
			}
			if one == two || errors.Is(one, two) || map[error]bool{one: true}[two] {
				t.Error("two errors are one")
			}
		})
	}
}

type uncomparable []string

func (u uncomparable) Error() string { return strings.Join(u, " ") }

type hiding struct{ error }

func (h hiding) Error() string { return "in other words: " + strings.ToUpper(h.error.Error()) }
func (h hiding) Unwrap() error { return h.error }

// The text of a source's error is shown without control characters and up to 500
// bytes.
func TestErrorTextIsBounded(t *testing.T) {
	const refresh = "failed to refresh cached credentials, " // as the SDK's cache says it, and once
	const room = 500 - len(refresh)
	for name, test := range map[string]struct{ said, want string }{
		"plain":               {"no route to host", "no route to host"},
		"not ASCII":           {"kein Schlüssel für „x“", "kein Schlüssel für „x“"},
		"line breaks":         {"one\r\ntwo\tthree", "one  two three"},
		"escape sequences":    {"\x1b[31mred\x1b[0m\x07\x00\u009b", " [31mred [0m   "},
		"invisible":           {"a\u202eb\u2028c\ufeffd", "a b c d"},
		"not UTF-8":           {"a\xffb", "a\ufffdb"},
		"as long as may be":   {strings.Repeat("x", room), strings.Repeat("x", room)},
		"longer":              {strings.Repeat("x", room+1), strings.Repeat("x", room-3) + "..."},
		"pages":               {strings.Repeat("x", 1<<20), strings.Repeat("x", room-3) + "..."},
		"cut within a letter": {strings.Repeat("x", room-4) + "üüü", strings.Repeat("x", room-4) + "..."},
		"refresh once":        {refresh + "x", "x"},
		"refresh twice":       {refresh + "x, " + refresh + "y, " + refresh + "z", "x, y, z"},
	} {
		t.Run(name, func(t *testing.T) {
			cause := errors.New(test.said)
			_, err := newProvider(t, failing(cause)).Token(t.Context())
			if !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.Is(err, cause) {
				t.Errorf("error %v, want ErrCredentials around the cause", err)
			}
			if got := strings.TrimPrefix(err.Error(), "bedrocktoken: no valid credentials: "+refresh); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
	t.Run("of the SDK's cache", func(t *testing.T) {
		cache := aws.NewCredentialsCache(aws.NewCredentialsCache(failing(errRefused)))
		_, err := newProvider(t, cache).Token(t.Context())
		if want := "bedrocktoken: no valid credentials: " + refresh + errRefused.Error(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	t.Run("of an address", func(t *testing.T) {
		request, err := http.NewRequest("GET", "https://"+strings.Repeat("\U000e0001", 300), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newProvider(t, static(accessKeyID, secretKey, "")).Transport(nil).RoundTrip(request)
		if !errors.Is(err, bedrocktoken.ErrEndpoint) || len(err.Error()) > 800 {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("of a config", func(t *testing.T) {
		profile := "x\x1b[31m" + strings.Repeat("y", 5000)
		for name, opt := range map[string]bedrocktoken.Option{
			"region":      bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")),
			"credentials": bedrocktoken.WithRegion(region),
		} {
			_, err := bedrocktoken.NewProvider(t.Context(), opt, bedrocktoken.WithProfile(profile))
			if err == nil || len(err.Error()) > 600 || strings.ContainsFunc(err.Error(), unicode.IsControl) || !strings.Contains(err.Error(), "cannot load the AWS config") {
				t.Errorf("%s: error is %v", name, err)
			}
		}
	})
}
