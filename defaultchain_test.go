package bedrocktoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// NewProvider fixes the region and the profile. All else is read again for each
// retrieval.
func TestRegionAndProfileAreFixed(t *testing.T) {
	awstest.WriteConfig(t, `
[default]
region = from-default-profile
aws_access_key_id = default
aws_secret_access_key = secret
[profile team]
region = from-team-profile
aws_access_key_id = team
aws_secret_access_key = secret
[profile later]
region = from-later-profile
aws_access_key_id = later
aws_secret_access_key = secret
`)
	later := map[string]string{"AWS_REGION": "later", "AWS_PROFILE": "later"}
	keysLater := map[string]string{"AWS_ACCESS_KEY_ID": "keys-later", "AWS_SECRET_ACCESS_KEY": "secret"}
	tests := map[string]struct {
		env, later  map[string]string
		opts        []bedrocktoken.Option
		region      string
		id, renewed string // access key IDs of the first retrieval and the second
	}{
		"default profile":         {nil, later, nil, "from-default-profile", "default", "default"},
		"AWS_DEFAULT_PROFILE":     {map[string]string{"AWS_DEFAULT_PROFILE": "team"}, later, nil, "from-team-profile", "team", "team"},
		"AWS_REGION":              {map[string]string{"AWS_REGION": region}, map[string]string{"AWS_REGION": "later"}, nil, region, "default", "default"},
		"AWS_PROFILE":             {map[string]string{"AWS_PROFILE": "team"}, later, nil, "from-team-profile", "team", "team"},
		"AWS_PROFILE, then keys":  {map[string]string{"AWS_PROFILE": "team"}, keysLater, nil, "from-team-profile", "team", "team"},
		"WithProfile":             {nil, later, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-team-profile", "team", "team"},
		"keys before AWS_PROFILE": {map[string]string{"AWS_ACCESS_KEY_ID": "keys", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_PROFILE": "team"}, later, nil, "from-team-profile", "keys", "keys"},
		"other keys":              {map[string]string{"AWS_ACCESS_KEY_ID": "keys", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": region}, keysLater, nil, region, "keys", "keys-later"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			synctest.Test(t, func(t *testing.T) {
				provider, err := bedrocktoken.NewProvider(t.Context(), test.opts...)
				if err != nil {
					t.Fatal(err)
				}
				awstest.Set(t, test.later)
				for _, id := range []string{test.id, test.renewed} {
					acceptNext(t, provider, test.region, aws.Credentials{AccessKeyID: id, SecretAccessKey: "secret"})
					time.Sleep(5 * time.Minute)
					provider.Token(t.Context()) // begins a retrieval
					synctest.Wait()
				}
				if provider.Region() != test.region {
					t.Errorf("region %q, want %q", provider.Region(), test.region)
				}
			})
		})
	}
}

// With region and credentials given nothing is loaded: settings with which no
// config can be loaded do no harm.
func TestNothingIsLoadedNeedlessly(t *testing.T) {
	awstest.Set(t, map[string]string{
		"AWS_PROFILE":                "nobody",
		"AWS_CA_BUNDLE":              "/does/not/exist",
		"AWS_REGION":                 "x y",
		"AWS_MAX_ATTEMPTS":           "many",
		"AWS_ROLE_ARN":               "x",
		"AWS_ACCESS_KEY_ID":          "half",
		"AWS_DEFAULTS_MODE":          "none such",
		"AWS_CONFIG_FILE":            t.TempDir(),
		"AWS_STS_REGIONAL_ENDPOINTS": "none such",
	})
	provider := bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, ""))
	for name, opts := range map[string][]bedrocktoken.Option{
		"region and credentials":          {bedrocktoken.WithRegion(region), provider},
		"region, credentials and profile": {bedrocktoken.WithRegion(region), provider, bedrocktoken.WithProfile("nobody")},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := bedrocktoken.ProvideToken(t.Context(), opts...)
			if err != nil {
				t.Fatal(err)
			}
			accept(t, token, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
		})
	}
	for name, opt := range map[string]bedrocktoken.Option{"region alone": bedrocktoken.WithRegion(region), "credentials alone": provider} {
		t.Run(name, func(t *testing.T) {
			if _, err := bedrocktoken.ProvideToken(t.Context(), opt); err == nil {
				t.Error("no error: these settings do no harm when loaded, so the test shows nothing")
			}
		})
	}
}

// A web identity in the environment precedes AWS_PROFILE.
func TestWebIdentityPrecedesProfile(t *testing.T) {
	awstest.WriteConfig(t, "[profile team]\naws_access_key_id = team\naws_secret_access_key = secret\n")
	awstest.Set(t, map[string]string{
		"AWS_REGION": region, "AWS_PROFILE": "team",
		"AWS_WEB_IDENTITY_TOKEN_FILE": filepath.Join(t.TempDir(), "not there"), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x",
	})
	provider, err := bedrocktoken.NewProvider(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first retrieval uses the config that is loaded already
		token, err := provider.Token(t.Context())
		if !errors.Is(err, bedrocktoken.ErrCredentials) || !strings.Contains(err.Error(), "not there") || token != "" {
			t.Errorf("got %q and error %v, want one about the missing file", token, err)
		}
	}
}

// A person may sign in between NewProvider and the first token.
func TestKeysWrittenBeforeTheFirstToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	awstest.Set(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_REGION": region})
	synctest.Test(t, func(t *testing.T) {
		provider, err := bedrocktoken.NewProvider(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		keys := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", accessKeyID, secretKey)
		if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
			t.Fatal(err)
		}
		acceptNext(t, provider, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
	})
}

// The error of a config that can no longer be loaded is wrapped.
func TestConfigErrorIsWrapped(t *testing.T) {
	awstest.WriteConfig(t, "[profile team]\nregion = us-east-1\n")
	synctest.Test(t, func(t *testing.T) {
		provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithProfile("team"))
		if err != nil {
			t.Fatal(err)
		}
		awstest.WriteConfig(t, "")
		time.Sleep(time.Second)
		var missing config.SharedConfigProfileNotExistError
		if token, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.As(err, &missing) {
			t.Errorf("got %q and error %v, want ErrCredentials around %T", token, err, missing)
		}
	})
}

// A Provider that is in use picks up what a login tool writes into the shared
// credentials file. It uses the keys that it holds while the file is missing or
// broken.
func TestReplacedKeysArePickedUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	awstest.Set(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_REGION": region})
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(id string) string {
		return fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = secret\naws_session_token = session\n", id)
	}
	write(keys("first"))
	synctest.Test(t, func(t *testing.T) {
		provider, err := bedrocktoken.NewProvider(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		get := func(id string) {
			t.Helper()
			acceptNext(t, provider, region, aws.Credentials{AccessKeyID: id, SecretAccessKey: "secret", SessionToken: "session"})
		}
		// A retrieval takes no time by the bubble's clock, but the call that begins it
		// does not wait for it.
		renew := func(before, after string) {
			t.Helper()
			time.Sleep(5 * time.Minute)
			get(before)
			time.Sleep(time.Nanosecond)
			get(after)
		}
		get("first")
		renew("first", "first")
		write(keys("second"))
		renew("first", "second")
		for _, wrong := range []string{
			"", "[default]\naws_access_key_id = half\n", "[default\nx", keys("with a blank"), "[default]\nrole_arn = x\nsource_profile = default\n",
		} {
			write(wrong)
			renew("second", "second")
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		renew("second", "second")
		write(keys("third"))
		renew("second", "third")
	})
}

// AWS_DEFAULT_PROFILE may name a profile that does not exist, as in the SDK.
func TestMissingDefaultProfileIsIgnored(t *testing.T) {
	creds := new(authority).Issue(time.Hour)
	server := newContainer(t, func(w http.ResponseWriter, r *http.Request) { writeCredentials(w, creds) })
	awstest.Set(t, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, "AWS_REGION": region, "AWS_DEFAULT_PROFILE": "nobody"})
	token, err := bedrocktoken.ProvideToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accept(t, token, region, creds)
}

// While the keys are missing from the shared credentials file, the SDK falls back on
// the role of the host. It is another identity, and the held keys are used instead.
func TestHostRoleDoesNotReplaceKeys(t *testing.T) {
	for name, life := range map[string]time.Duration{"role that expires": 6 * time.Hour, "keys that do not": 0} {
		t.Run(name, func(t *testing.T) {
			host := aws.Credentials{AccessKeyID: "host", SecretAccessKey: "secret", SessionToken: "session"}
			var calls atomic.Int32
			server := newContainer(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				fields := map[string]any{"AccessKeyId": host.AccessKeyID, "SecretAccessKey": host.SecretAccessKey, "Token": host.SessionToken}
				if life > 0 {
					fields["Expiration"] = time.Now().Add(life)
				}
				json.NewEncoder(w).Encode(fields)
			})
			file := filepath.Join(t.TempDir(), "credentials")
			if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = own\naws_secret_access_key = secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			awstest.Set(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_REGION": region, "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL})
			synctest.Test(t, func(t *testing.T) {
				provider, err := bedrocktoken.NewProvider(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for n := range int32(3) {
					acceptNext(t, provider, region, aws.Credentials{AccessKeyID: "own", SecretAccessKey: "secret"})
					if n == 0 {
						if err := os.WriteFile(file, []byte("[default]\n# the keys are on their way\n"), 0o600); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(5 * time.Minute)
				}
				if calls.Load() == 0 {
					t.Error("the host was not asked, so the test shows nothing")
				}

				// A Provider that holds no keys uses the role of the host.
				provider, err = bedrocktoken.NewProvider(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				acceptNext(t, provider, region, host)
			})
		})
	}
}

// A credential_process that reports no expiration is run once, since it may prompt.
// One that does is run again before its credentials expire.
func TestCredentialProcessIsRun(t *testing.T) {
	for name, expires := range map[string]bool{"without an expiration": false, "with one": true} {
		t.Run(name, func(t *testing.T) {
			output := filepath.Join(t.TempDir(), "output")
			awstest.WriteConfig(t, "[default]\nregion = "+region+"\ncredential_process = "+printing(output)+"\n")
			synctest.Test(t, func(t *testing.T) {
				prints := func(id string) {
					t.Helper()
					fields := map[string]any{"Version": 1, "AccessKeyId": id, "SecretAccessKey": "secret"}
					if expires {
						fields["Expiration"] = time.Now().Add(time.Hour)
					}
					text, err := json.Marshal(fields)
					if err == nil {
						err = os.WriteFile(output, text, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				prints("first")
				provider, err := bedrocktoken.NewProvider(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				get := func(id string) {
					t.Helper()
					acceptNext(t, provider, region, aws.Credentials{AccessKeyID: id, SecretAccessKey: "secret"})
				}
				get("first")
				prints("second")
				time.Sleep(44 * time.Minute)
				get("first")
				time.Sleep(time.Nanosecond)
				get("first")
				time.Sleep(time.Minute)
				get("first")
				time.Sleep(time.Nanosecond)
				if expires {
					get("second")
				} else {
					get("first")
				}
			})
		})
	}
}

// AWS_CREDENTIAL_EXPIRATION, which the SDK ignores, is the expiration of the keys in
// the environment. It has to be a time, and does not apply to other credentials.
func TestEnvironmentExpiration(t *testing.T) {
	keys := map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": sessionToken, "AWS_REGION": region}
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}
	synctest.Test(t, func(t *testing.T) {
		awstest.Set(t, keys)
		hour := time.Now().Add(time.Hour).UTC()
		for name, value := range map[string]string{
			"UTC":         hour.Format(time.RFC3339),
			"offset":      hour.In(time.FixedZone("", -7*3600)).Format(time.RFC3339),
			"nanoseconds": hour.Format(time.RFC3339Nano),
		} {
			t.Setenv("AWS_CREDENTIAL_EXPIRATION", value)
			provider, err := bedrocktoken.NewProvider(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			token, err := provider.RetrieveBearerToken(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			accept(t, token.Value, region, creds)
			if !token.Expires.Equal(hour) {
				t.Errorf("%s: expires at %v, want %v", name, token.Expires, hour)
			}
		}
	})
	for name, test := range map[string]struct{ value, says string }{
		"past":           {"2020-01-02T03:04:05Z", "expired at 2020-01-02T03:04:05Z"},
		"no time":        {"soon", `AWS_CREDENTIAL_EXPIRATION is "soon"`},
		"seconds":        {"1795512597", `AWS_CREDENTIAL_EXPIRATION is "1795512597"`},
		"without a zone": {"2099-01-02T03:04:05", `AWS_CREDENTIAL_EXPIRATION is "2099-01-02T03:04:05"`},
		"long":           {strings.Repeat("x", 1000), "AWS_CREDENTIAL_EXPIRATION is"},
		"control":        {"a\x1b[31m", `AWS_CREDENTIAL_EXPIRATION is "a\x1b[31m"`},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, keys)
			t.Setenv("AWS_CREDENTIAL_EXPIRATION", test.value)
			token, err := bedrocktoken.ProvideToken(t.Context())
			if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
				t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
			}
			if text := err.Error(); !strings.Contains(text, test.says) || len(text) > 300 {
				t.Errorf("error is %q", text)
			}
		})
	}

	awstest.WriteConfig(t, "[profile team]\naws_access_key_id = team\naws_secret_access_key = secret\n")
	for name, opts := range map[string][]bedrocktoken.Option{
		"WithProfile":             {bedrocktoken.WithProfile("team")},
		"WithCredentialsProvider": {bedrocktoken.WithCredentialsProvider(static("team", "secret", ""))},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, keys)
			t.Setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-02T03:04:05Z")
			token, err := bedrocktoken.ProvideToken(t.Context(), opts...)
			if err != nil {
				t.Fatal(err)
			}
			accept(t, token, region, aws.Credentials{AccessKeyID: "team", SecretAccessKey: "secret"})
		})
	}
}

// The credentials of the default chain are renewed like those of a given source. The
// HTTP is real, but the time is the bubble's.
func TestDefaultChainIsRenewed(t *testing.T) {
	var issue atomic.Pointer[func() (aws.Credentials, error)]
	var calls atomic.Int32
	server := newContainer(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		creds, err := (*issue.Load())()
		if err != nil {
			http.Error(w, `{"code": "OutOfOrder", "message": "the source is out of order"}`, http.StatusBadRequest)
			return
		}
		writeCredentials(w, creds)
	})
	awstest.Set(t, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, "AWS_REGION": region})

	synctest.Test(t, func(t *testing.T) {
		var authority authority
		next := func(creds aws.Credentials, err error) {
			retrieve := func() (aws.Credentials, error) { return creds, err }
			issue.Store(&retrieve)
		}
		provider, err := bedrocktoken.NewProvider(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		get := func(want aws.Credentials) {
			t.Helper()
			token, verified := authority.token(t, provider)
			if verified.AccessKeyID != want.AccessKeyID || !token.Expires.Equal(want.Expires) {
				t.Fatalf("signed by %s until %v, want %s until %v", verified.AccessKeyID, token.Expires, want.AccessKeyID, want.Expires)
			}
		}

		if n := calls.Load(); n != 0 {
			t.Errorf("%d retrievals before the first token", n)
		}
		first := authority.Issue(time.Hour)
		next(first, nil)
		get(first)
		get(first)
		if n := calls.Load(); n != 1 {
			t.Errorf("%d retrievals for two tokens", n)
		}

		// The renewal is in the background, and the true expiry is reported.
		second := authority.Issue(2 * time.Hour)
		next(second, nil)
		time.Sleep(time.Until(first.Expires.Add(-5 * time.Minute)))
		get(first)
		time.Sleep(time.Nanosecond)
		get(second)

		// In an outage the credentials are used until they expire.
		next(aws.Credentials{}, errRefused)
		for _, left := range []time.Duration{5 * time.Minute, time.Minute, time.Nanosecond} {
			time.Sleep(time.Until(second.Expires.Add(-left)))
			get(second)
		}
		time.Sleep(time.Nanosecond)
		if _, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || !strings.Contains(err.Error(), "OutOfOrder") {
			t.Errorf("error %v, want ErrCredentials around the endpoint's", err)
		}

		// Credentials that live for seconds are used if there are no others.
		third := authority.Issue(7 * time.Second)
		next(third, nil)
		get(third)
	})
}

// A request of the default chain that is not answered is sent again before the
// retrieval times out.
func TestHungRequestIsSentAgain(t *testing.T) {
	creds := new(authority).Issue(time.Hour)
	asked := make(chan struct{}, 9)
	var calls atomic.Int32
	server := newContainer(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		if calls.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		writeCredentials(w, creds)
	})
	restore := awstest.SetUntil(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, "AWS_REGION": region})
	start := time.Now()
	type result struct {
		token string
		err   error
	}
	results := make(chan result)
	go func() {
		token, err := bedrocktoken.ProvideToken(context.Background())
		results <- result{token, err}
	}()
	<-asked
	restore()
	t.Parallel() // since it takes real time; the environment has been read

	got := <-results
	if got.err != nil {
		t.Fatalf("after %v: %v", time.Since(start), got.err)
	}
	accept(t, got.token, region, creds)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}
