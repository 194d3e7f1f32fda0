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
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// A service stands in for one of AWS's that gives credentials: STS, the endpoint of a
// container or the metadata service of EC2. Its HTTP is real, though the time be that
// of a bubble.
type service struct {
	*httptest.Server

	mu     sync.Mutex
	creds  aws.Credentials
	status int             // of each answer, if it is not 200
	asked  []*http.Request // for credentials or for a region
	open   map[net.Conn]bool
}

func newService(t *testing.T) *service {
	s := &service{open: map[net.Conn]bool{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.SetKeepAlivesEnabled(false) // an idle connection would outlive the bubble
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[c] = true; state == http.StateClosed {
			delete(s.open, c)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv("AWS_REGION", region)
	return s
}

// newContainer starts a credentials endpoint such as ECS has.
func newContainer(t *testing.T) *service {
	s := newService(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", s.URL)
	return s
}

func newInstance(t *testing.T) *service {
	s := newService(t)
	awstest.Set(t, map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": s.URL})
	return s
}

func newSTS(t *testing.T) *service {
	s := newService(t)
	t.Setenv("AWS_ENDPOINT_URL_STS", s.URL)
	return s
}

func (s *service) set(creds aws.Credentials, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.creds, s.status = creds, status
}

// requests returns those for credentials or for a region since it was last called.
func (s *service) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.ParseForm()
	switch {
	case r.URL.Path == "/latest/api/token" && s.status != http.StatusNotFound:
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		io.WriteString(w, "session")
	case s.status != 0:
		s.asked = append(s.asked, r)
		http.Error(w, `{"code": "OutOfOrder", "message": "out of order"}`, s.status)
	case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
		io.WriteString(w, "role")
	case r.Form.Has("Action"):
		s.asked = append(s.asked, r)
		fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey>`+
			`<SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			s.creds.AccessKeyID, s.creds.SecretAccessKey, s.creds.SessionToken, s.creds.Expires.UTC().Format(time.RFC3339))
	default:
		s.asked = append(s.asked, r)
		json.NewEncoder(w).Encode(map[string]any{
			"Code": "Success", "AccessKeyId": s.creds.AccessKeyID, "SecretAccessKey": s.creds.SecretAccessKey,
			"Token": s.creds.SessionToken, "Expiration": s.creds.Expires,
		})
	}
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keys returns a credentials file, and keysOf the credentials in it.
func keys(id string) string {
	return "[default]\naws_access_key_id = " + id + "\naws_secret_access_key = secret\n"
}

func keysOf(id string) aws.Credentials {
	return aws.Credentials{AccessKeyID: id, SecretAccessKey: "secret"}
}

// newCredentialsFile makes an empty file the shared credentials file.
func newCredentialsFile(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "credentials")
	awstest.Set(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_REGION": region})
	return file
}

// With region and credentials given nothing is loaded: settings with which no
// config can be loaded do no harm.
func TestNothingIsLoadedNeedlessly(t *testing.T) {
	awstest.Set(t, map[string]string{"AWS_PROFILE": "nobody", "AWS_CA_BUNDLE": "/does/not/exist", "AWS_REGION": "x y", "AWS_MAX_ATTEMPTS": "many"})
	signedBy(t, tokenOf(t, newProvider(t, static(accessKeyID, secretKey, ""), bedrocktoken.WithProfile("nobody"))), region, longTerm)
	for name, opt := range map[string]bedrocktoken.Option{
		"region": bedrocktoken.WithRegion(region), "credentials": bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")),
	} {
		if _, err := bedrocktoken.ProvideToken(t.Context(), opt); err == nil {
			t.Errorf("no error with the %s alone: the settings do no harm when loaded, so the test shows nothing", name)
		}
	}
}

// AWS_CREDENTIAL_EXPIRATION, which the SDK ignores, is the expiration of the keys in
// the environment. It has to be a time, and does not apply to other credentials.
func TestEnvironmentExpiration(t *testing.T) {
	awstest.Set(t, map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_REGION": region})
	hour := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, value := range map[string]string{
		"UTC": hour.Format(time.RFC3339), "offset": hour.In(time.FixedZone("", -7*3600)).Format(time.RFC3339), "fraction": hour.Format("2006-01-02T15:04:05.000Z07:00"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_CREDENTIAL_EXPIRATION", value)
			token, err := newDefault(t).RetrieveBearerToken(t.Context())
			if err != nil || !token.Expires.Equal(hour) {
				t.Fatalf("expires at %v, want %v; error %v", token.Expires, hour, err)
			}
			signedBy(t, token.Value, region, longTerm)
		})
	}
	for name, test := range map[string]struct{ value, says string }{
		"past":           {"2020-01-02T03:04:05Z", "expired at 2020-01-02T03:04:05Z"},
		"no time":        {"soon", `AWS_CREDENTIAL_EXPIRATION is "soon"`},
		"seconds":        {"1795512597", `AWS_CREDENTIAL_EXPIRATION is "1795512597"`},
		"without a zone": {"2099-01-02T03:04:05", `AWS_CREDENTIAL_EXPIRATION is "2099-01-02T03:04:05"`},
		"long":           {strings.Repeat("x", 1000), "AWS_CREDENTIAL_EXPIRATION is"},
		"control":        {"a\x1b[31m", `AWS_CREDENTIAL_EXPIRATION is "a\x1b[31m"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_CREDENTIAL_EXPIRATION", test.value)
			err := errorOf(t, newDefault(t))
			if text := err.Error(); errors.Is(err, bedrocktoken.ErrOutage) || !strings.Contains(text, test.says) || len(text) > 300 {
				t.Errorf("error is %q", text)
			}
		})
	}
	t.Setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-02T03:04:05Z")
	writeFile(t, newCredentialsFile(t), keys("other"))
	signedBy(t, tokenOf(t, newDefault(t, bedrocktoken.WithProfile("default"))), region, keysOf("other"))
}

// A web identity in the environment precedes AWS_PROFILE.
func TestWebIdentityPrecedesProfile(t *testing.T) {
	sts := newSTS(t)
	awstest.WriteConfig(t, "[profile team]\naws_access_key_id = team\naws_secret_access_key = secret\n")
	file := filepath.Join(t.TempDir(), "identity")
	awstest.Set(t, map[string]string{"AWS_PROFILE": "team", "AWS_WEB_IDENTITY_TOKEN_FILE": file, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"})
	synctest.Test(t, func(t *testing.T) {
		provider := newDefault(t)
		for range 2 { // the first retrieval uses the config that is loaded already
			if err := errorOf(t, provider); !strings.Contains(err.Error(), file) {
				t.Errorf("error %v, want one about the missing file", err)
			}
			time.Sleep(5 * time.Second)
		}
		// An answer without credentials is an error, not the end of the process.
		writeFile(t, file, "identity")
		if errorOf(t, provider); len(sts.requests()) == 0 {
			t.Error("STS was not asked")
		}
	})
}

// A given region is that of the token. STS is asked in the region of the
// environment or the profile, if there is one, and for sessions of an hour unless the
// profile says otherwise.
func TestRoleOfAProfile(t *testing.T) {
	sts := newSTS(t)
	const role = "role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n"
	awstest.WriteConfig(t, "[profile base]\naws_access_key_id = base\naws_secret_access_key = secret\n"+
		"[profile nowhere]\n"+role+"[profile at-home]\nregion = eu-north-1\n"+role+
		"[profile 15-minutes]\nduration_seconds = 900\n"+role+"[profile 15-and-more]\nduration_seconds = 901\n"+role+
		"[profile half]\nduration_seconds = 1800\n"+role+"[profile 12-hours]\nduration_seconds = 43200\n"+role+
		"[profile chained]\n"+strings.Replace(role, "base", "nowhere", 1))
	for name, test := range map[string]struct{ env, profile, given, token, asked, seconds string }{
		"AWS_REGION":           {"eu-west-1", "nowhere", "us-west-2", "us-west-2", "eu-west-1", "3600"},
		"the profile's":        {"", "at-home", "us-west-2", "us-west-2", "eu-north-1", "3600"},
		"no other region":      {"", "nowhere", "us-west-2", "us-west-2", "us-west-2", "3600"},
		"AWS_REGION alone":     {"eu-west-1", "at-home", "", "eu-west-1", "eu-west-1", "3600"},
		"the profile's, alone": {"", "at-home", "", "eu-north-1", "eu-north-1", "3600"},
		"15 minutes":           {region, "15-minutes", "", region, region, "900"},
		"a second more":        {region, "15-and-more", "", region, region, "900"},
		"half an hour":         {region, "half", "", region, region, "1800"},
		"12 hours":             {region, "12-hours", "", region, region, "43200"},
		"chained":              {region, "chained", "", region, region, "3600"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_REGION", test.env)
			synctest.Test(t, func(t *testing.T) {
				provider := newDefault(t, bedrocktoken.WithRegion(test.given), bedrocktoken.WithProfile(test.profile))
				// The second retrieval loads the config anew, but keeps the region.
				for _, status := range []int{http.StatusForbidden, 0} {
					creds := new(awstest.Authority).Issue(time.Hour)
					sts.set(creds, status)
					if status == 0 {
						signedBy(t, tokenOf(t, provider), test.token, creds)
					} else {
						errorOf(t, provider)
					}
					for _, request := range sts.requests() {
						if !strings.Contains(request.Header.Get("Authorization"), "/"+test.asked+"/sts/") || request.Form.Get("DurationSeconds") != test.seconds {
							t.Errorf("STS was asked for %s s and with %s, want %s s in %s",
								request.Form.Get("DurationSeconds"), request.Header.Get("Authorization"), test.seconds, test.asked)
						}
					}
					t.Setenv("AWS_REGION", "at-later-1")
					time.Sleep(5 * time.Second)
				}
			})
		})
	}
}

// A credential_process that reports no expiration is run once, since it may prompt.
// One that does is run again before its credentials expire.
func TestCredentialProcessIsRun(t *testing.T) {
	for _, expiration := range []string{"", `, "Expiration": "2000-01-01T01:00:00Z"`} { // an hour after a bubble's beginning
		output := filepath.Join(t.TempDir(), "output")
		awstest.WriteConfig(t, "[default]\nregion = "+region+"\ncredential_process = "+printing(output)+"\n")
		synctest.Test(t, func(t *testing.T) {
			print := func(id string) {
				writeFile(t, output, `{"Version": 1, "AccessKeyId": "`+id+`", "SecretAccessKey": "secret"`+expiration+`}`)
			}
			print("first")
			provider := newDefault(t)
			signedBy(t, tokenOf(t, provider), region, keysOf("first"))
			print("second")
			time.Sleep(45 * time.Minute)
			signedBy(t, tokenOf(t, provider), region, keysOf("first"))
			time.Sleep(time.Second)
			want := "first"
			if expiration != "" {
				want = "second"
			}
			signedBy(t, tokenOf(t, provider), region, keysOf(want))
		})
	}
}

// The credentials of the roles of containers and instances are renewed, and used on
// while their source is out of order, even if they expire.
func TestHostRoles(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *service{"container": newContainer, "instance": newInstance} {
		t.Run(name, func(t *testing.T) {
			host := start(t)
			synctest.Test(t, func(t *testing.T) {
				var authority awstest.Authority
				host.set(authority.Issue(time.Hour), 0)
				provider := newDefault(t)
				if n := len(host.requests()); n != 0 {
					t.Errorf("%d requests before the first token", n)
				}
				token, err := provider.RetrieveBearerToken(t.Context())
				if err != nil || !token.Expires.Equal(authority.Nth(0).Expires) {
					t.Fatalf("expires at %v, want %v; error %v", token.Expires, authority.Nth(0).Expires, err)
				}
				signedBy(t, token.Value, region, authority.Nth(0))
				time.Sleep(46 * time.Minute)
				host.set(authority.Issue(time.Hour), 0)
				tokenOf(t, provider) // begins a retrieval
				time.Sleep(time.Second)
				signedBy(t, tokenOf(t, provider), region, authority.Nth(1))

				host.set(aws.Credentials{}, http.StatusServiceUnavailable)
				for began := time.Now(); time.Since(began) < 8*time.Hour; time.Sleep(time.Minute) {
					signedBy(t, tokenOf(t, provider), region, authority.Nth(1))
				}
				host.set(authority.Issue(time.Hour), 0)
				time.Sleep(5 * time.Minute)
				tokenOf(t, provider)
				time.Sleep(time.Second)
				signedBy(t, tokenOf(t, provider), region, authority.Nth(2))
			})
		})
	}
}

// A service that is overloaded or out of order is an outage. That the metadata service
// has no role is none: it was the last to ask, so there are no credentials. The SDK
// writes nothing to standard error.
func TestHostWithoutRole(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	defer func(before *os.File) { os.Stderr = before }(os.Stderr)
	os.Stderr = log
	for name, test := range map[string]struct {
		start  func(*testing.T) *service
		status int
		outage bool
		says   string
	}{
		"instance, 503":  {newInstance, 503, true, "failed to refresh cached credentials"},
		"instance, 429":  {newInstance, 429, true, "failed to refresh cached credentials"},
		"instance, 404":  {newInstance, 404, false, "no AWS credentials were found"},
		"container, 503": {newContainer, 503, true, "OutOfOrder"},
		"container, 404": {newContainer, 404, false, "OutOfOrder"},
		"nothing":        {newService, 0, false, "no AWS credentials were found"},
	} {
		t.Run(name, func(t *testing.T) {
			host := test.start(t)
			host.set(aws.Credentials{}, test.status)
			synctest.Test(t, func(t *testing.T) {
				err := errorOf(t, newDefault(t))
				if errors.Is(err, bedrocktoken.ErrOutage) != test.outage || !strings.Contains(err.Error(), test.says) {
					t.Errorf("error is %v, want one that says %q", err, test.says)
				}
			})
		})
	}
	if written, err := os.ReadFile(log.Name()); err != nil || len(written) != 0 {
		t.Errorf("%q was written, error %v", written, err)
	}
}

// NewProvider fixes the region and the profile. All else is read again for each
// retrieval.
func TestRegionAndProfileAreFixed(t *testing.T) {
	awstest.WriteConfig(t, `
[default]
region = default-profile-1
aws_access_key_id = default
aws_secret_access_key = secret
[profile team]
region = team-profile-1
aws_access_key_id = team
aws_secret_access_key = secret
[profile later]
region = later-profile-1
aws_access_key_id = later
aws_secret_access_key = secret
`)
	type env = map[string]string
	later := env{"AWS_REGION": "at-later-1", "AWS_PROFILE": "later"}
	keysLater := env{"AWS_ACCESS_KEY_ID": "keys-later", "AWS_SECRET_ACCESS_KEY": "secret"}
	for name, test := range map[string]struct {
		env, later  env
		opts        []bedrocktoken.Option
		region      string
		id, renewed string // access key IDs of the first retrieval and the second
	}{
		"default profile":         {nil, later, nil, "default-profile-1", "default", "default"},
		"AWS_DEFAULT_PROFILE":     {env{"AWS_DEFAULT_PROFILE": "team"}, later, nil, "team-profile-1", "team", "team"},
		"AWS_REGION":              {env{"AWS_REGION": region}, env{"AWS_REGION": "at-later-1"}, nil, region, "default", "default"},
		"AWS_PROFILE":             {env{"AWS_PROFILE": "team"}, later, nil, "team-profile-1", "team", "team"},
		"AWS_PROFILE, then keys":  {env{"AWS_PROFILE": "team"}, keysLater, nil, "team-profile-1", "team", "team"},
		"WithProfile":             {nil, later, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "team-profile-1", "team", "team"},
		"keys before AWS_PROFILE": {env{"AWS_ACCESS_KEY_ID": "keys", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_PROFILE": "team"}, later, nil, "team-profile-1", "keys", "keys"},
		"other keys":              {env{"AWS_ACCESS_KEY_ID": "keys", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": region}, keysLater, nil, region, "keys", "keys-later"},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			synctest.Test(t, func(t *testing.T) {
				provider := newDefault(t, test.opts...)
				signedBy(t, tokenOf(t, provider), test.region, keysOf(test.id))
				awstest.Set(t, test.later)
				time.Sleep(5 * time.Minute)
				tokenOf(t, provider) // begins a retrieval
				synctest.Wait()
				signedBy(t, tokenOf(t, provider), test.region, keysOf(test.renewed))
				if provider.Region() != test.region {
					t.Errorf("region %q, want %q", provider.Region(), test.region)
				}
			})
		})
	}
}

// A profile that nobody named may be missing, from the beginning or later. One that
// WithProfile or AWS_PROFILE names may not.
func TestMissingProfile(t *testing.T) {
	type env = map[string]string
	for name, test := range map[string]struct {
		env     env
		profile string
		atStart bool // whether it is missing from the beginning
		want    bool // whether there is an error
	}{
		"default":                      {nil, "", false, false},
		"AWS_DEFAULT_PROFILE at start": {env{"AWS_DEFAULT_PROFILE": "nobody"}, "", true, false},
		"AWS_DEFAULT_PROFILE":          {env{"AWS_DEFAULT_PROFILE": "team"}, "", false, false},
		"AWS_PROFILE":                  {env{"AWS_PROFILE": "team"}, "", false, true},
		"AWS_PROFILE=default":          {env{"AWS_PROFILE": "default"}, "", false, true},
		"WithProfile":                  {nil, "team", false, true},
		"WithProfile, default":         {nil, "default", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			container := newContainer(t)
			awstest.Set(t, test.env)
			if !test.atStart {
				awstest.WriteConfig(t, "[default]\noutput = json\n[profile team]\noutput = json\n")
			}
			synctest.Test(t, func(t *testing.T) {
				var authority awstest.Authority
				container.set(authority.Issue(time.Hour), 0)
				provider := newDefault(t, bedrocktoken.WithProfile(test.profile))
				signedBy(t, tokenOf(t, provider), region, authority.Newest())
				awstest.WriteConfig(t, "")
				container.set(authority.Issue(3*time.Hour), 0)
				time.Sleep(time.Hour)
				if !test.want {
					signedBy(t, tokenOf(t, provider), region, authority.Newest())
				} else if err := errorOf(t, provider); !errors.As(err, new(config.SharedConfigProfileNotExistError)) {
					t.Errorf("error is %v", err)
				}
			})
		})
	}
}

// The role of the machine does not take the place of a profile whose file is gone
// before the first token.
func TestMachineReplacesNoProfile(t *testing.T) {
	container := newContainer(t)
	file := newCredentialsFile(t)
	writeFile(t, file, keys("mine"))
	synctest.Test(t, func(t *testing.T) {
		var authority awstest.Authority
		container.set(authority.Issue(time.Hour), 0)
		provider := newDefault(t)
		writeFile(t, file, "")
		time.Sleep(time.Second)
		if err := errorOf(t, provider); !strings.Contains(err.Error(), "another identity") {
			t.Errorf("error is %v", err)
		}
		writeFile(t, file, keys("mine"))
		time.Sleep(5 * time.Second)
		signedBy(t, tokenOf(t, provider), region, keysOf("mine"))
	})
}

// A Provider picks up what a login tool writes into the shared credentials file,
// before its first token and later. It uses the keys that it holds while the file is
// missing or broken.
func TestReplacedKeysArePickedUp(t *testing.T) {
	file := newCredentialsFile(t)
	for _, before := range []string{"", keys("old")} {
		writeFile(t, file, before)
		synctest.Test(t, func(t *testing.T) {
			provider := newDefault(t)
			writeFile(t, file, keys("first"))
			time.Sleep(time.Second)
			signedBy(t, tokenOf(t, provider), region, keysOf("first"))
			broken := []string{"", "[default]\naws_access_key_id = half\n", "[default\nx", keys("with a blank"), "[default]\nrole_arn = x\nsource_profile = default\n"}
			held := "first"
			for _, text := range append(broken, keys("second")) {
				writeFile(t, file, text)
				time.Sleep(5 * time.Minute)
				signedBy(t, tokenOf(t, provider), region, keysOf("first"))
				synctest.Wait()
				if text == keys("second") {
					held = "second"
				}
				signedBy(t, tokenOf(t, provider), region, keysOf(held))
			}
			os.Remove(file)
			time.Sleep(5 * time.Minute)
			tokenOf(t, provider)
			synctest.Wait()
			signedBy(t, tokenOf(t, provider), region, keysOf("second"))
		})
	}
}

// A credentials file that can be read only once is enough for a token at once.
func TestCredentialsFileIsAPipe(t *testing.T) {
	if _, err := os.Stat("/dev/fd"); err != nil {
		t.Skip("this system has no /dev/fd")
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	io.WriteString(writer, keys("piped"))
	writer.Close()
	awstest.Set(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": fmt.Sprintf("/dev/fd/%d", reader.Fd()), "AWS_REGION": region})
	synctest.Test(t, func(t *testing.T) {
		provider := newDefault(t)
		time.Sleep(time.Second - time.Nanosecond)
		signedBy(t, tokenOf(t, provider), region, keysOf("piped"))
	})
}

// A request that gets no answer is given up after 10 seconds, and sent again. Here it
// waits for the address of its host, since nothing real may wait in a bubble.
func TestHungRequestIsSentAgain(t *testing.T) {
	newSTS(t)
	awstest.Set(t, map[string]string{"AWS_ENDPOINT_URL_STS": "http://sts.example.", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"})
	file := filepath.Join(t.TempDir(), "identity")
	writeFile(t, file, "identity")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	resolver := func(dial func()) *net.Resolver {
		return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { dial(); return nil, errRefused }}
	}
	resolver(func() {}).LookupHost(t.Context(), "localhost") // what all resolvers share is then none of the bubble's
	defer func(before *net.Resolver) { net.DefaultResolver = before }(net.DefaultResolver)
	synctest.Test(t, func(t *testing.T) {
		release, least := make(chan struct{}), time.Hour
		defer close(release)
		net.DefaultResolver = resolver(func() { <-release })
		for range 60 { // in one of them the random pauses between the tries are short
			began := time.Now()
			if err := errorOf(t, newDefault(t)); !errors.Is(err, bedrocktoken.ErrOutage) {
				t.Fatalf("error %v, want ErrOutage", err)
			}
			least = min(least, time.Since(began))
		}
		if least < 30*time.Second || least > 32*time.Second {
			t.Errorf("%v, want three tries of 10 s", least)
		}
	})
}

// No connection and no goroutine outlives a retrieval, whether it succeeds or not.
func TestNothingOutlivesARetrieval(t *testing.T) {
	for _, status := range []int{0, http.StatusForbidden} {
		t.Run(fmt.Sprint("status ", status), func(t *testing.T) {
			container := newContainer(t)
			container.Config.SetKeepAlivesEnabled(true)
			container.set(new(awstest.Authority).Issue(time.Hour), status)
			before := runtime.NumGoroutine()
			for range 100 {
				if _, err := bedrocktoken.ProvideToken(t.Context()); (err == nil) != (status == 0) {
					t.Fatal(err)
				}
			}
			var connections, goroutines int
			for range 100 { // the server learns of it a moment later
				container.mu.Lock()
				connections = len(container.open)
				container.mu.Unlock()
				if goroutines = runtime.NumGoroutine() - before; connections == 0 && goroutines <= 0 {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("%d connections and %d goroutines are left", connections, goroutines)
		})
	}
}

// AWS_DEFAULTS_MODE=auto costs no time: the metadata service is not asked for a
// region.
func TestDefaultsModeCostsNothing(t *testing.T) {
	metadata := newInstance(t)
	awstest.Set(t, map[string]string{"AWS_DEFAULTS_MODE": "auto", "AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey})
	signedBy(t, tokenOf(t, newDefault(t)), region, longTerm)
	if n := len(metadata.requests()); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}
