package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// The sources whose credentials are used on in an outage.
var stableSources = []string{
	ec2rolecreds.ProviderName, endpointcreds.ProviderName, stscreds.ProviderName,
	stscreds.WebIdentityProviderName, ssocreds.ProviderName, logincreds.ProviderName,
}

// What a source may answer.
type sourceAnswer func(b *bench, source string) (aws.Credentials, error)

func fresh(life time.Duration) sourceAnswer {
	return func(b *bench, source string) (aws.Credentials, error) {
		creds := b.Issue(life)
		creds.Source = source
		return creds, nil
	}
}

func failure(err error) sourceAnswer {
	return func(*bench, string) (aws.Credentials, error) { return aws.Credentials{}, err }
}

func statusError(status int) error {
	return &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: "Code", Message: "message"},
	}}
}

func expired(b *bench, source string) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, Source: source, CanExpire: true, Expires: time.Now().Add(-time.Second)}, nil
}

var outages = map[string]sourceAnswer{
	"status 500":     failure(statusError(500)),
	"status 503":     failure(statusError(503)),
	"status 429":     failure(statusError(429)),
	"throttled":      failure(&smithy.GenericAPIError{Code: "Throttling"}),
	"no connection":  failure(fmt.Errorf("wrapped: %w", &net.OpError{Op: "dial", Err: errors.New("refused")})),
	"no such host":   failure(&net.DNSError{Err: "no such host"}),
	"timed out":      failure(&aws.RequestCanceledError{Err: context.DeadlineExceeded}),
	"expired answer": expired,
}

var refusals = map[string]sourceAnswer{
	"status 403":  failure(statusError(403)),
	"status 400":  failure(statusError(400)),
	"other":       failure(errors.New("the file cannot be read")),
	"signed out":  failure(&ssocreds.InvalidTokenError{Err: &fs.PathError{Op: "open", Path: "token", Err: syscall.ENOENT}}),
	"sign-in":     failure(&ssocreds.InvalidTokenError{Err: errors.New("the SSO session has expired")}),
	"empty":       func(*bench, string) (aws.Credentials, error) { return aws.Credentials{}, nil },
	"half a pair": func(*bench, string) (aws.Credentials, error) { return aws.Credentials{AccessKeyID: accessKeyID}, nil },
}

func (b *bench) answers(answer sourceAnswer, source string) {
	b.source.Set(func(context.Context) (aws.Credentials, error) { return answer(b, source) })
}

// signedBy wants a token signed with the nth credentials, at once, whether or not
// they have expired.
func (b *bench) signedBy(nth int) {
	b.Helper()
	start := time.Now()
	token, err := b.provider.RetrieveBearerToken(b.Context())
	if err != nil {
		b.Fatalf("error %v, want a token", err)
	}
	accept(b.T, token.Value, region, b.Nth(nth))
	if waited := time.Since(start); waited != 0 {
		b.Errorf("waited for %v", waited)
	}
	if !token.Expires.After(time.Now()) || token.Expires.After(time.Now().Add(12*time.Hour)) {
		b.Errorf("reported to expire at %v, which is now or before", token.Expires)
	}
}

// In each state of the held credentials and for each answer of the source, the
// source is asked or not, and the next calls are signed as AWS's SDKs would.
func TestRenewalStates(t *testing.T) {
	const (
		valid     = 30 * time.Minute
		advisory  = 50 * time.Minute
		mandatory = 59*time.Minute + 30*time.Second
		dead      = 61 * time.Minute
	)
	type state struct {
		name   string
		age    time.Duration
		first  int // which credentials sign the call that sets off the retrieval, if the answer is new
		served bool
	}
	for _, s := range []state{{"advisory", advisory, 0, true}, {"mandatory", mandatory, 1, true}, {"expired", dead, 1, false}} {
		start := func(t *testing.T, source string, answer sourceAnswer, test func(b *bench)) {
			t.Run(s.name+", "+source, func(t *testing.T) {
				onBench(t, func(b *bench) {
					b.answers(fresh(time.Hour), source)
					b.signedBy(0)
					time.Sleep(s.age)
					b.answers(answer, source)
					test(b)
				})
			})
		}
		for _, source := range append(stableSources, "the user's own", processcreds.ProviderName) {
			start(t, source, fresh(time.Hour), func(b *bench) {
				b.signedBy(s.first)
				b.retrievals(2)
				b.signedBy(1)
				b.retrievals(2)
			})
			stable := s.served || source != "the user's own" && source != processcreds.ProviderName
			for name, outage := range outages {
				t.Run(name, func(t *testing.T) {
					start(t, source, outage, func(b *bench) {
						if !stable {
							b.fail(0)
							b.fail(0)
							b.retrievals(3)
							return
						}
						b.signedBy(0)
						b.retrievals(2)
						time.Sleep(10*time.Second - time.Nanosecond)
						b.signedBy(0) // and the source is not asked within the pause
						b.retrievals(2)
						time.Sleep(time.Nanosecond)
						b.signedBy(0)
						b.retrievals(3)
					})
				})
			}
			for name, refusal := range refusals {
				t.Run(name, func(t *testing.T) {
					start(t, source, refusal, func(b *bench) {
						if !s.served {
							b.fail(0)
							b.retrievals(2)
							b.fail(0)
							b.retrievals(3)
							b.answers(fresh(time.Hour), source)
							b.signedBy(1)
							return
						}
						b.signedBy(0)
						b.retrievals(2)
						b.signedBy(0)
						b.retrievals(2)
					})
				})
			}
		}
	}
	t.Run("valid", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.signedBy(0)
			time.Sleep(valid)
			b.signedBy(0)
			b.retrievals(1)
		})
	})
	for name, answer := range map[string]sourceAnswer{"outage": outages["status 500"], "refusal": refusals["status 403"], "expired": expired} {
		t.Run("none, "+name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.answers(answer, stscreds.ProviderName)
				b.fail(0)
				b.fail(0)
				b.retrievals(2)
			})
		})
	}
}

// The advisory window follows from the life at retrieval, each time anew.
func TestAdvisoryWindow(t *testing.T) {
	for _, test := range []struct{ life, window time.Duration }{
		{90 * time.Second, time.Minute},
		{4 * time.Minute, 2 * time.Minute},
		{10 * time.Minute, 5 * time.Minute},
		{20 * time.Minute, 5 * time.Minute},
		{20*time.Minute + 30*time.Second, 15 * time.Minute},
		{time.Hour, 15 * time.Minute},
		{90*time.Minute - time.Second, 15 * time.Minute},
		{90 * time.Minute, time.Hour},
		{6 * time.Hour, time.Hour},
		{12 * time.Hour, time.Hour},
	} {
		t.Run(test.life.String(), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.answers(fresh(test.life), "")
				b.signedBy(0)
				time.Sleep(test.life - test.window - time.Nanosecond)
				b.signedBy(0)
				b.retrievals(1)
				time.Sleep(time.Nanosecond)
				b.answers(fresh(10*time.Minute), "")
				b.provider.Token(b.Context())
				b.retrievals(2)
				if test.window > 10*time.Minute {
					return // the new ones expire sooner, and are not taken
				}
				b.signedBy(1)
				time.Sleep(5*time.Minute - time.Nanosecond)
				b.signedBy(1)
				b.retrievals(2)
				time.Sleep(time.Nanosecond)
				b.signedBy(1)
				b.retrievals(3)
			})
		})
	}
	t.Run("6 hours, then 10 minutes", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.answers(fresh(6*time.Hour), "")
			b.signedBy(0)
			time.Sleep(6*time.Hour - 9*time.Minute)
			b.answers(fresh(10*time.Minute), "")
			b.signedBy(0)
			b.retrievals(2)
			b.signedBy(1)
			time.Sleep(5*time.Minute - time.Nanosecond)
			b.signedBy(1)
			b.retrievals(2)
			time.Sleep(time.Nanosecond)
			b.signedBy(1)
			b.retrievals(3)
		})
	})
}

// In an outage of hours no call fails or waits, the source is asked some hundred
// times, and its new credentials are in use within 5 minutes of its return.
func TestOutageOfHours(t *testing.T) {
	for _, source := range stableSources {
		t.Run(source, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.answers(fresh(time.Hour), source)
				b.signedBy(0)
				b.source.Set(func(ctx context.Context) (aws.Credentials, error) {
					time.Sleep(5 * time.Second)
					return aws.Credentials{}, &aws.RequestCanceledError{Err: context.DeadlineExceeded}
				})
				time.Sleep(46 * time.Minute)
				for end := time.Now().Add(6 * time.Hour); time.Now().Before(end); time.Sleep(7 * time.Second) {
					b.signedBy(0)
				}
				if n := b.source.Calls(); n < 50 || n > 150 {
					b.Errorf("the source was asked %d times in 6 hours, want about 100", n)
				}
				b.answers(fresh(time.Hour), source)
				for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(7 * time.Second) {
					if _, err := b.provider.Token(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.signedBy(1)
			})
		})
	}
	// A call that comes when nobody has called for long waits a second at most.
	t.Run("idle", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.answers(fresh(time.Hour), stscreds.ProviderName)
			b.signedBy(0)
			time.Sleep(61 * time.Minute)
			b.answers(outages["status 500"], stscreds.ProviderName)
			b.signedBy(0)
			time.Sleep(5 * time.Hour)
			b.hang(false)
			start := time.Now()
			token, err := b.provider.Token(b.Context())
			if err != nil || time.Since(start) != time.Second {
				b.Fatalf("error %v after %v, want a token after a second", err, time.Since(start))
			}
			accept(b, token, region, b.Nth(0))
			time.Sleep(2 * time.Hour)
			b.answers(fresh(time.Hour), stscreds.ProviderName)
			b.signedBy(1)
		})
	})
	// Once a renewal has ended in an outage, nobody waits for the next one.
	for name, test := range map[string]struct{ age, pause time.Duration }{
		"in the last minute":       {59*time.Minute + 30*time.Second, 10 * time.Second},
		"expired":                  {61 * time.Minute, 10 * time.Second},
		"a minute and a half late": {61 * time.Minute, 100 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.answers(fresh(time.Hour), stscreds.ProviderName)
				b.signedBy(0)
				time.Sleep(test.age)
				b.answers(outages["status 500"], stscreds.ProviderName)
				b.signedBy(0)
				time.Sleep(test.pause)
				b.hang(false)
				for range 70 {
					b.signedBy(0)
					time.Sleep(time.Second)
				}
				b.retrievals(3)
			})
		})
	}
	// A caller with less than two seconds left keeps half of them for its request.
	t.Run("deadline", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.answers(fresh(time.Hour), stscreds.ProviderName)
			b.signedBy(0)
			time.Sleep(61 * time.Minute)
			b.answers(outages["status 500"], stscreds.ProviderName)
			b.signedBy(0)
			time.Sleep(5 * time.Hour)
			b.hang(false)
			ctx, cancel := context.WithTimeout(b.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			token, err := b.provider.Token(ctx)
			if err != nil || time.Since(start) != 50*time.Millisecond {
				b.Fatalf("error %v after %v, want a token after 50ms", err, time.Since(start))
			}
			accept(b, token, region, b.Nth(0))
		})
	})
	// An outage does not hide a refusal.
	t.Run("then a refusal", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.answers(fresh(time.Hour), stscreds.ProviderName)
			b.signedBy(0)
			time.Sleep(61 * time.Minute)
			b.answers(outages["status 500"], stscreds.ProviderName)
			b.signedBy(0)
			b.answers(refusals["status 403"], stscreds.ProviderName)
			time.Sleep(10 * time.Second)
			b.signedBy(0)
			synctest.Wait()
			b.fail(0)
		})
	})
}

// A role whose credentials the metadata service hands out when they have expired
// is used, as in the SDKs.
func TestExpiredInstanceCredentialsAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now().Add(-time.Hour), Source: ec2rolecreds.ProviderName}
		source := awstest.NewSource(func(context.Context) (aws.Credentials, error) { return creds, nil })
		provider := newProvider(t, source)
		for range 3 {
			token, err := provider.RetrieveBearerToken(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			accept(t, token.Value, region, creds)
			if left := time.Until(token.Expires); left <= 0 || left > 10*time.Minute {
				t.Errorf("reported to expire in %v", left)
			}
			time.Sleep(time.Second)
		}
		if n := source.Calls(); n != 1 {
			t.Errorf("%d retrievals in a pause, want 1", n)
		}
		creds.AccessKeyID, creds.Expires = "AKIAFRESH", time.Now().Add(time.Hour)
		time.Sleep(10 * time.Second)
		provider.Token(t.Context())
		synctest.Wait()
		token, err := provider.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		accept(t, token, region, creds)
	})
}

// A 401 or 403 from the service renews the credentials in the background, at most
// once a minute, if that asks nobody.
func TestRefusedByTheService(t *testing.T) {
	refusing := func(b *bench, status int) func() {
		base := awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
		})
		transport := b.provider.Transport(base)
		return func() {
			b.Helper()
			request, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, runtimeURL, nil)
			response, err := transport.RoundTrip(request)
			if err != nil || response.StatusCode != status {
				b.Fatalf("response %v, error %v", response, err)
			}
			synctest.Wait()
		}
	}
	asksNobody := append([]string{config.CredentialsSourceName, "SharedConfigCredentials: /home/user/.aws/credentials"}, stableSources...)
	for _, source := range append(asksNobody, "", "StaticCredentials", processcreds.ProviderName) {
		for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests} {
			t.Run(fmt.Sprint(source, " ", status), func(t *testing.T) {
				onBench(t, func(b *bench) {
					b.answers(fresh(time.Hour), source)
					call := refusing(b, status)
					b.signedBy(0)
					call()
					b.retrievals(1) // the last one began less than a minute ago
					time.Sleep(time.Minute)
					call()
					b.retrievals(1)
					time.Sleep(time.Nanosecond)
					call()
					renewed := 0
					if (status == 401 || status == 403) && source != "" && source != "StaticCredentials" && source != processcreds.ProviderName {
						renewed = 1
					}
					b.retrievals(1 + renewed)
					b.signedBy(renewed)
				})
			})
		}
	}
	onSTS := func(name string, test func(b *bench, call func())) {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.answers(fresh(time.Hour), stscreds.ProviderName)
				b.signedBy(0)
				time.Sleep(10 * time.Minute)
				test(b, refusing(b, http.StatusForbidden))
			})
		})
	}
	onSTS("new ones that expire sooner", func(b *bench, call func()) {
		b.answers(fresh(20*time.Minute), stscreds.ProviderName)
		call()
		b.signedBy(1)
	})
	onSTS("and later ones that expire sooner", func(b *bench, call func()) {
		call()
		b.signedBy(1)
		time.Sleep(50 * time.Minute)
		b.answers(fresh(2*time.Minute), stscreds.ProviderName)
		b.signedBy(1)
		b.retrievals(3)
		b.signedBy(1) // which nobody has refused
	})
	onSTS("outage", func(b *bench, call func()) {
		b.answers(outages["status 500"], stscreds.ProviderName)
		call()
		b.retrievals(2)
		b.signedBy(0)
		call() // in the pause
		b.retrievals(2)
	})
	onSTS("outage, then the source has no others", func(b *bench, call func()) {
		held := b.Nth(0)
		held.Source = stscreds.ProviderName
		b.answers(outages["status 500"], stscreds.ProviderName)
		call()
		b.source.Set(func(context.Context) (aws.Credentials, error) { return held, nil })
		time.Sleep(10 * time.Second)
		b.signedBy(0)
		b.retrievals(3)
		time.Sleep(time.Minute + time.Nanosecond)
		call() // not in a pause
		b.retrievals(4)
		sleepUntil(held.Expires.Add(-30 * time.Second))
		b.hang(false)
		b.get(0, time.Second) // not in an outage
	})
	onSTS("the source has no others", func(b *bench, call func()) {
		held := b.Nth(0)
		held.Source = stscreds.ProviderName
		b.source.Set(func(context.Context) (aws.Credentials, error) { return held, nil })
		for range 5 * 60 {
			call()
			time.Sleep(time.Second)
		}
		b.retrievals(1 + 5)
		b.signedBy(0)
	})
	onSTS("the source has others later", func(b *bench, call func()) {
		held := b.Nth(0)
		held.Source = stscreds.ProviderName
		b.source.Set(func(context.Context) (aws.Credentials, error) { return held, nil })
		call()
		b.retrievals(2)
		sleepUntil(held.Expires.Add(-15 * time.Minute))
		b.answers(fresh(10*time.Minute), stscreds.ProviderName)
		b.signedBy(0)
		b.retrievals(3)
		b.signedBy(1)
	})
	onSTS("a policy forbids every call", func(b *bench, call func()) {
		for range 5 * 60 {
			call()
			time.Sleep(time.Second)
		}
		b.retrievals(1 + 5)
	})
	older := func(b *bench, call func()) {
		arrived, answer := make(chan struct{}), make(chan struct{})
		slow := b.provider.Transport(awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			close(arrived)
			<-answer
			return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody}, nil
		}))
		done := make(chan struct{})
		go func() {
			defer close(done)
			request, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, runtimeURL, nil)
			slow.RoundTrip(request)
		}()
		<-arrived
		call()
		b.retrievals(2)
		time.Sleep(2 * time.Minute)
		close(answer)
		<-done
		b.retrievals(2)
	}
	onSTS("older ones were refused", older)
	for field, change := range map[string]func(*aws.Credentials){
		"access key ID":     func(c *aws.Credentials) { c.AccessKeyID += "2" },
		"secret access key": func(c *aws.Credentials) { c.SecretAccessKey += "2" },
		"session token":     func(c *aws.Credentials) { c.SessionToken += "2" },
	} {
		onSTS("older ones with another "+field+" were refused", func(b *bench, call func()) {
			changed := b.Nth(0)
			changed.Source = stscreds.ProviderName
			change(&changed)
			b.source.Set(func(context.Context) (aws.Credentials, error) { return changed, nil })
			older(b, call)
		})
	}
	t.Run("expired, in a pause", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.answers(fresh(time.Hour), stscreds.ProviderName)
			b.signedBy(0)
			time.Sleep(time.Hour)
			b.answers(outages["status 500"], stscreds.ProviderName)
			b.signedBy(0)
			call := refusing(b, http.StatusForbidden)
			call()
			b.retrievals(2)
			time.Sleep(10 * time.Second)
			call()
			b.retrievals(3)
			for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
				b.signedBy(0)
			}
			n := b.source.Calls()
			for b.source.Calls() == n {
				b.signedBy(0)
				time.Sleep(time.Second)
			}
			time.Sleep(4 * time.Minute) // of the pause of 5 minutes
			call()
			b.retrievals(n + 1)
		})
	})
}

// A handler is told of each renewal that failed while callers were served, and of
// nothing else.
func TestRenewalErrorHandler(t *testing.T) {
	onHandler := func(name string, source string, test func(b *bench, told func() []error)) {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				var errs []error
				b.answers(fresh(time.Hour), source)
				b.provider = newProvider(b, b.source, bedrocktoken.WithRenewalErrorHandler(func(err error) { errs = append(errs, err) }))
				test(b, func() []error {
					synctest.Wait()
					return errs
				})
			})
		})
	}
	secret := strings.Repeat("x", 5000)
	for name, err := range map[string]error{"outage": statusError(500), "refusal": fmt.Errorf("no: %s\n%w", secret, errRefused)} {
		onHandler(name, stscreds.ProviderName, func(b *bench, told func() []error) {
			b.signedBy(0)
			b.source.Set(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, err })
			time.Sleep(45 * time.Minute)
			for n := range 3 {
				b.signedBy(0)
				if got := len(told()); got != n+1 {
					b.Fatalf("%d errors after %d failed renewals", got, n+1)
				}
				b.signedBy(0)
				time.Sleep(20 * time.Second)
			}
			got := told()[0]
			if !errors.Is(got, bedrocktoken.ErrCredentials) || !errors.Is(got, err) {
				b.Errorf("error %v is not ErrCredentials around the source's", got)
			}
			until := "used until " + b.Nth(0).Expires.UTC().Format(time.RFC3339)
			if text := got.Error(); !strings.Contains(text, until) || strings.Count(text, "failed to refresh cached credentials") != 1 || len(text) > 700 || strings.Contains(text, "\n") {
				b.Errorf("error is %q", text)
			}
		})
	}
	onHandler("nothing held", stscreds.ProviderName, func(b *bench, told func() []error) {
		b.answers(outages["status 500"], stscreds.ProviderName)
		b.fail(0)
		if got := told(); len(got) != 0 {
			b.Errorf("told %v, and so was the caller", got)
		}
	})
	onHandler("expired, refusal", stscreds.ProviderName, func(b *bench, told func() []error) {
		b.signedBy(0)
		time.Sleep(61 * time.Minute)
		b.answers(refusals["status 403"], stscreds.ProviderName)
		b.fail(0)
		if got := told(); len(got) != 0 {
			b.Errorf("told %v, and so was the caller", got)
		}
	})
	onHandler("expired, outage", stscreds.ProviderName, func(b *bench, told func() []error) {
		b.signedBy(0)
		time.Sleep(61 * time.Minute)
		b.answers(outages["status 500"], stscreds.ProviderName)
		b.signedBy(0)
		until := "used until " + time.Now().Add(10*time.Second+2*time.Minute).UTC().Format(time.RFC3339)
		if got := told(); len(got) != 1 || !strings.Contains(got[0].Error(), until) {
			b.Errorf("told %v, want one error with %q", got, until)
		}
	})
	onHandler("without an expiry", "", func(b *bench, told func() []error) {
		creds := b.Issue(time.Hour)
		creds.CanExpire = false
		b.source.Set(func(context.Context) (aws.Credentials, error) { return creds, nil })
		b.provider.Token(b.Context())
		b.answers(refusals["other"], "")
		time.Sleep(5 * time.Minute)
		b.provider.Token(b.Context())
		if got := told(); len(got) != 1 || !strings.Contains(got[0].Error(), "which do not expire") {
			b.Errorf("told %v, want one error", got)
		}
	})
	t.Run("blocks", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.answers(fresh(time.Hour), "")
			b.provider = newProvider(b, b.source, bedrocktoken.WithRenewalErrorHandler(func(error) { <-b.over }))
			b.signedBy(0)
			b.answers(refusals["other"], "")
			time.Sleep(45 * time.Minute)
			for range 10 {
				b.signedBy(0)
				time.Sleep(time.Minute)
			}
			b.answers(fresh(time.Hour), "")
			time.Sleep(3 * time.Minute)
			b.signedBy(0)
			synctest.Wait()
			b.signedBy(1)
		})
	})
	t.Run("nil", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.provider = newProvider(b, b.source, bedrocktoken.WithRenewalErrorHandler(nil))
			b.signedBy(0)
			b.answers(refusals["other"], "")
			time.Sleep(45 * time.Minute)
			b.signedBy(0)
		})
	})
}

// One retrieval and one renewal serve all regions, and with the source down the
// second region is served as the first.
func TestForRegion(t *testing.T) {
	onBench(t, func(b *bench) {
		b.answers(fresh(time.Hour), stscreds.ProviderName)
		first := newProvider(b, b.source, bedrocktoken.WithExpiry(30*time.Minute))
		second, err := first.ForRegion("us-west-2")
		if err != nil {
			b.Fatal(err)
		}
		both := func() {
			b.Helper()
			for region, provider := range map[string]*bedrocktoken.Provider{region: first, "us-west-2": second} {
				token, err := provider.Token(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if verified := accept(b, token, region, b.Newest()); verified.Expiry != 30*time.Minute {
					b.Errorf("%s: an expiry of %v", region, verified.Expiry)
				}
				if provider.Region() != region {
					b.Errorf("region %q, want %q", provider.Region(), region)
				}
			}
		}
		both()
		b.retrievals(1)
		b.answers(outages["no connection"], stscreds.ProviderName)
		time.Sleep(3 * time.Hour)
		both()
		b.retrievals(2)

		for _, bad := range []string{"", "us east", "US-EAST-1"} {
			if p, err := first.ForRegion(bad); p != nil || !errors.Is(err, bedrocktoken.ErrRegion) {
				b.Errorf("%q: got %v and error %v, want ErrRegion", bad, p, err)
			}
		}
		for _, none := range []*bedrocktoken.Provider{nil, {}} {
			if p, err := none.ForRegion(region); p != nil || !errors.Is(err, bedrocktoken.ErrCredentials) {
				b.Errorf("got %v and error %v, want ErrCredentials", p, err)
			}
		}

		var sent string
		base := awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			sent = r.URL.Host
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})
		client := &http.Client{Transport: second.Transport(base)}
		if _, err := client.Get(runtimeURL); !errors.Is(err, bedrocktoken.ErrRegion) {
			b.Errorf("the first region: error %v, want ErrRegion", err)
		}
		if _, err := client.Get("https://bedrock-runtime.us-west-2.amazonaws.com"); err != nil || sent != "bedrock-runtime.us-west-2.amazonaws.com" {
			b.Errorf("the second region: error %v, sent to %q", err, sent)
		}
	})
}

// While credentials are valid, those of the host's role do not replace them unless
// they are the host's, too: the SDK falls back to that role if its files are missing.
func TestRenewalKeepsIdentity(t *testing.T) {
	const shared = "SharedConfigCredentials: /home/user/.aws/credentials"
	for _, test := range []struct {
		held, fresh string
		taken       bool
	}{
		{shared, ec2rolecreds.ProviderName, false},
		{shared, endpointcreds.ProviderName, false},
		{endpointcreds.ProviderName, ec2rolecreds.ProviderName, false},
		{stscreds.ProviderName, ec2rolecreds.ProviderName, false},
		{ec2rolecreds.ProviderName, ec2rolecreds.ProviderName, true},
		{endpointcreds.ProviderName, endpointcreds.ProviderName, true},
		{ec2rolecreds.ProviderName, shared, true},
		{ssocreds.ProviderName, stscreds.ProviderName, true},
	} {
		t.Run(test.held+", then "+test.fresh, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.answers(fresh(time.Hour), test.held)
				b.signedBy(0)
				time.Sleep(50 * time.Minute)
				b.answers(fresh(2*time.Hour), test.fresh)
				b.signedBy(0)
				b.retrievals(2)
				if test.taken {
					b.signedBy(1)
					return
				}
				b.signedBy(0)
				time.Sleep(10 * time.Minute)
				b.signedBy(2)
			})
		})
	}
}
