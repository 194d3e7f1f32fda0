package bedrocktoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// These tests put local servers in place of AWS's services, and reach them through
// the default chain.

// An instance is an EC2 metadata service.
type instance struct {
	mu          sync.Mutex
	credentials aws.Credentials
	down        bool
	regions     int // how often the region was asked
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.down:
		http.Error(w, "down", http.StatusInternalServerError)
	case r.URL.Path == "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		io.WriteString(w, "session")
	case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
		io.WriteString(w, "role")
	case r.URL.Path == "/latest/meta-data/iam/security-credentials/role":
		json.NewEncoder(w).Encode(map[string]any{
			"Code": "Success", "AccessKeyId": i.credentials.AccessKeyID, "SecretAccessKey": i.credentials.SecretAccessKey,
			"Token": i.credentials.SessionToken, "Expiration": i.credentials.Expires,
		})
	default:
		i.regions++
		io.WriteString(w, region)
	}
}

func (i *instance) set(creds aws.Credentials, down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.credentials, i.down = creds, down
}

func newInstance(t *testing.T) *instance {
	i := new(instance)
	server := newContainer(t, i.ServeHTTP)
	awstest.Set(t, map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.URL, "AWS_REGION": region})
	return i
}

// While the metadata service is down, the credentials of an EC2 instance are used,
// and when it is back, its new ones.
func TestInstanceOutage(t *testing.T) {
	metadata := newInstance(t)
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		held := authority.Issue(6 * time.Hour)
		metadata.set(held, false)
		provider, err := bedrocktoken.NewProvider(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		signedBy := func(creds aws.Credentials) {
			t.Helper()
			start := time.Now()
			acceptNext(t, provider, region, creds)
			if waited := time.Since(start); waited != 0 {
				t.Errorf("waited for %v", waited)
			}
		}
		signedBy(held)
		metadata.set(held, true)
		for end := time.Now().Add(8 * time.Hour); time.Now().Before(end); time.Sleep(time.Minute) {
			signedBy(held)
		}
		renewed := authority.Issue(6 * time.Hour)
		metadata.set(renewed, false)
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Second) {
			if _, err := provider.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		signedBy(renewed)

		// It may have an outage of its own, and hand out what has expired.
		time.Sleep(6*time.Hour + time.Minute)
		provider, err = bedrocktoken.NewProvider(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		signedBy(renewed)
	})
}

// AWS_DEFAULTS_MODE=auto costs no time: the metadata service is not asked for a
// region.
func TestDefaultsModeCostsNothing(t *testing.T) {
	metadata := newInstance(t)
	awstest.Set(t, map[string]string{"AWS_DEFAULTS_MODE": "auto", "AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey})
	token, err := bedrocktoken.ProvideToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acceptStatic(t, token)
	if metadata.regions != 0 {
		t.Errorf("the region was asked for %d times", metadata.regions)
	}
}

// A credentials file that can be read only once is enough.
func TestCredentialsFileIsAPipe(t *testing.T) {
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip("this system has no /dev/fd")
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	fmt.Fprintf(writer, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", accessKeyID, secretKey)
	writer.Close()
	awstest.Set(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": fmt.Sprintf("/dev/fd/%d", reader.Fd()), "AWS_REGION": region})
	synctest.Test(t, func(t *testing.T) {
		provider, err := bedrocktoken.NewProvider(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		acceptNext(t, provider, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
	})
}

// A given region is that of the token. STS is asked in the region of the
// environment or the profile, if there is one.
func TestCredentialsComeFromTheirOwnRegion(t *testing.T) {
	var scope atomic.Value
	var down atomic.Bool
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, after, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		scope.Store(strings.Split(after, "/")[2])
		if down.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>`+
			`<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken>`+
			`<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	const roles = `[profile at-home]
region = eu-north-1
role_arn = arn:aws:iam::123456789012:role/x
source_profile = base
[profile nowhere]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = base
[profile base]
aws_access_key_id = base
aws_secret_access_key = secret
`
	awstest.WriteConfig(t, roles)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	for name, test := range map[string]struct{ env, profile, given, token, scope string }{
		"AWS_REGION":           {"eu-west-1", "nowhere", "us-west-2", "us-west-2", "eu-west-1"},
		"the profile's":        {"", "at-home", "us-west-2", "us-west-2", "eu-north-1"},
		"no other region":      {"", "nowhere", "us-west-2", "us-west-2", "us-west-2"},
		"AWS_REGION alone":     {"eu-west-1", "at-home", "", "eu-west-1", "eu-west-1"},
		"the profile's, alone": {"", "at-home", "", "eu-north-1", "eu-north-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_REGION", test.env)
			provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion(test.given), bedrocktoken.WithProfile(test.profile))
			if err != nil {
				t.Fatal(err)
			}
			// The second retrieval loads the config anew, but keeps the region.
			for _, refuses := range []bool{true, false} {
				down.Store(refuses)
				if refuses {
					if token, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) {
						t.Errorf("got %q and error %v, want ErrCredentials", token, err)
					}
				} else {
					acceptNext(t, provider, test.token, aws.Credentials{AccessKeyID: "ASIAROLE", SecretAccessKey: "secret", SessionToken: "session"})
				}
				if got := scope.Swap("nowhere"); got != test.scope {
					t.Errorf("STS was asked in %v, want %s", got, test.scope)
				}
				t.Setenv("AWS_REGION", "later")
			}
		})
	}
}

// No connection and no goroutine outlives a retrieval, whether it succeeds or not.
func TestNothingOutlivesARetrieval(t *testing.T) {
	for name, status := range map[string]int{"healthy": http.StatusOK, "refuses": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			open := map[net.Conn]bool{}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if status != http.StatusOK {
					http.Error(w, `{"code": "No", "message": "no"}`, status)
					return
				}
				writeCredentials(w, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken, Expires: time.Now().Add(time.Hour)})
			}))
			server.Config.ConnState = func(c net.Conn, state http.ConnState) {
				mu.Lock()
				defer mu.Unlock()
				switch state {
				case http.StateClosed:
					delete(open, c)
				default:
					open[c] = true
				}
			}
			server.Start()
			defer server.Close()
			awstest.Set(t, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, "AWS_REGION": region})
			before := runtime.NumGoroutine()
			provider, err := bedrocktoken.NewProvider(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for range 100 {
				_, err := bedrocktoken.ProvideToken(t.Context())
				if (err == nil) != (status == http.StatusOK) {
					t.Fatal(err)
				}
				provider.Token(t.Context())
			}
			var left, goroutines int
			for range 100 { // the server learns of it a moment later
				mu.Lock()
				left = len(open)
				mu.Unlock()
				if goroutines = runtime.NumGoroutine() - before; left == 0 && goroutines <= 0 {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("%d connections and %d goroutines are left", left, goroutines)
		})
	}
}

// An answer of STS without credentials is an error, not the end of the process.
func TestEmptyAnswerOfSTS(t *testing.T) {
	sts := newContainer(t, func(http.ResponseWriter, *http.Request) {})
	file := t.TempDir() + "/token"
	if err := os.WriteFile(file, []byte("identity"), 0o600); err != nil {
		t.Fatal(err)
	}
	awstest.Set(t, map[string]string{
		"AWS_ENDPOINT_URL_STS": sts.URL, "AWS_REGION": region, "AWS_WEB_IDENTITY_TOKEN_FILE": file, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x",
	})
	token, err := bedrocktoken.ProvideToken(t.Context())
	if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
		t.Errorf("got %q and error %v, want ErrCredentials", token, err)
	}
}

type panicking struct{}

func (panicking) Error() string { panic("no text") }

// A source that panics, and a source whose error does, are errors.
func TestPanicsOfASource(t *testing.T) {
	var none map[string]int
	for name, test := range map[string]struct {
		retrieve aws.CredentialsProviderFunc
		says     []string
	}{
		"panics":             {func(context.Context) (aws.Credentials, error) { panic("no luck") }, []string{"no luck", "TestPanicsOfASource", "line "}},
		"writes to no map":   {func(context.Context) (aws.Credentials, error) { none["x"] = 1; return aws.Credentials{}, nil }, []string{"nil map", "TestPanicsOfASource"}},
		"error panics":       {func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, panicking{} }, []string{"panicking"}},
		"nil pointer, error": {func(context.Context) (aws.Credentials, error) { var e *net.OpError; return aws.Credentials{}, e }, []string{"net.OpError"}},
	} {
		for kind, source := range map[string]aws.CredentialsProvider{"raw": test.retrieve, "cached": aws.NewCredentialsCache(test.retrieve)} {
			if kind == "cached" && slices.Contains([]string{"panics", "writes to no map"}, name) {
				continue // in a goroutine of the SDK's
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				token, err := newProvider(t, source).Token(t.Context())
				if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
					t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
				}
				for _, part := range test.says {
					if kind == "raw" && !strings.Contains(err.Error(), part) {
						t.Errorf("%q is not in %q", part, err)
					}
				}
			})
		}
	}
}
