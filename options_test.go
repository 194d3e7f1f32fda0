package bedrocktoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/testenv"
)

func TestResolveRegion(t *testing.T) {
	testenv.WriteConfig(t, "[default]\nregion = from-default-profile\n[profile team]\nregion = from-team-profile\n")
	loaded := bedrocktoken.WithConfig(aws.Config{Region: "from-config"})
	tests := map[string]struct {
		env  map[string]string
		opts []bedrocktoken.Option
		want string
	}{
		"default profile":      {nil, nil, "from-default-profile"},
		"AWS_PROFILE":          {map[string]string{"AWS_PROFILE": "team"}, nil, "from-team-profile"},
		"WithProfile":          {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-team-profile"},
		"empty WithProfile":    {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("")}, "from-default-profile"},
		"AWS_DEFAULT_REGION":   {map[string]string{"AWS_DEFAULT_REGION": "from-default"}, nil, "from-default"},
		"AWS_REGION":           {map[string]string{"AWS_DEFAULT_REGION": "from-default", "AWS_REGION": "from-env"}, nil, "from-env"},
		"env before profile":   {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-env"},
		"WithRegion":           {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithRegion("given")}, "given"},
		"empty WithRegion":     {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithRegion("")}, "from-env"},
		"the last counts":      {nil, []bedrocktoken.Option{bedrocktoken.WithRegion("one"), nil, bedrocktoken.WithRegion("two")}, "two"},
		"config":               {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{loaded}, "from-config"},
		"config and region":    {nil, []bedrocktoken.Option{loaded, bedrocktoken.WithRegion("given")}, "given"},
		"region and config":    {nil, []bedrocktoken.Option{bedrocktoken.WithRegion("given"), loaded}, "given"},
		"config, empty region": {nil, []bedrocktoken.Option{loaded, bedrocktoken.WithRegion("")}, "from-config"},
		"config, no profile":   {nil, []bedrocktoken.Option{loaded, bedrocktoken.WithProfile("")}, "from-config"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.Set(t, test.env)
			opts := append(test.opts, bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")))
			token, err := bedrocktoken.ProvideToken(t.Context(), opts...)
			if err != nil {
				t.Fatal(err)
			}
			accept(t, token, test.want, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
		})
	}

	failures := map[string]struct {
		config string
		env    map[string]string
		opts   []bedrocktoken.Option
		says   []string
	}{
		"none":                         {says: []string{"WithRegion", "AWS_REGION", "AWS_DEFAULT_REGION", "profile"}},
		"config without":               {env: map[string]string{"AWS_REGION": "from-env"}, opts: []bedrocktoken.Option{bedrocktoken.WithConfig(aws.Config{})}, says: []string{"WithRegion"}},
		"bad AWS_REGION":               {env: map[string]string{"AWS_REGION": "US East"}, says: []string{`"US East"`}},
		"bad region of profile":        {config: "[default]\nregion = us_east_1\n", says: []string{`"us_east_1"`}},
		"profile that is not there":    {env: map[string]string{"AWS_PROFILE": "nobody"}, says: []string{"nobody"}},
		"unreadable AWS_CA_BUNDLE":     {env: map[string]string{"AWS_CA_BUNDLE": "/does/not/exist"}, says: []string{"/does/not/exist"}},
		"good environment, bad option": {env: map[string]string{"AWS_REGION": "us-east-1"}, opts: []bedrocktoken.Option{bedrocktoken.WithRegion("x y")}, says: []string{`"x y"`}},
	}
	for name, test := range failures {
		t.Run(name, func(t *testing.T) {
			testenv.WriteConfig(t, test.config)
			testenv.Set(t, test.env)
			opts := append(test.opts, bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")))
			token, err := bedrocktoken.ProvideToken(t.Context(), opts...)
			if !errors.Is(err, bedrocktoken.ErrRegion) || token != "" {
				t.Fatalf("got %q and error %v, want ErrRegion", token, err)
			}
			if missing := new(config.SharedConfigProfileNotExistError); name == "profile that is not there" && !errors.As(err, missing) {
				t.Errorf("error %v hides its cause", err)
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

func TestResolveCredentials(t *testing.T) {
	testenv.WriteConfig(t, `
[default]
aws_access_key_id = from-default-profile
aws_secret_access_key = secret
[profile team]
aws_access_key_id = from-team-profile
aws_secret_access_key = secret
aws_session_token = session
[profile half]
aws_access_key_id = half
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = team
mfa_serial = arn:aws:iam::123456789012:mfa/x
[profile process]
credential_process = /does/not/exist
`)
	env := map[string]string{"AWS_ACCESS_KEY_ID": "from-env", "AWS_SECRET_ACCESS_KEY": "secret"}
	given := bedrocktoken.WithCredentialsProvider(static("given", "secret", ""))
	loaded := bedrocktoken.WithConfig(aws.Config{Region: region, Credentials: static("from-config", "secret", "")})
	var nilPointer *credentials.StaticCredentialsProvider
	var nilCache *aws.CredentialsCache
	tests := map[string]struct {
		env  map[string]string
		opts []bedrocktoken.Option
		want string
	}{
		"default profile":         {nil, nil, "from-default-profile"},
		"AWS_PROFILE":             {map[string]string{"AWS_PROFILE": "team"}, nil, "from-team-profile"},
		"environment":             {env, nil, "from-env"},
		"WithProfile before env":  {env, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-team-profile"},
		"given":                   {env, []bedrocktoken.Option{given}, "given"},
		"given, and profile":      {nil, []bedrocktoken.Option{given, bedrocktoken.WithProfile("team")}, "given"},
		"config":                  {env, []bedrocktoken.Option{loaded}, "from-config"},
		"config and given":        {env, []bedrocktoken.Option{loaded, given}, "given"},
		"given and config":        {env, []bedrocktoken.Option{given, loaded}, "given"},
		"nil":                     {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(nil)}, "from-env"},
		"nil, config":             {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(nil), loaded}, "from-config"},
		"nil takes back":          {env, []bedrocktoken.Option{given, bedrocktoken.WithCredentialsProvider(nil)}, "from-env"},
		"nil pointer":             {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(nilPointer)}, "from-env"},
		"nil cache":               {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(nilCache)}, "from-env"},
		"nil func":                {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(aws.CredentialsProviderFunc(nil))}, "from-env"},
		"empty cache":             {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(new(aws.CredentialsCache))}, "from-env"},
		"cache around nothing":    {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(aws.NewCredentialsCache(nil))}, "from-env"},
		"nil option":              {env, []bedrocktoken.Option{nil}, "from-env"},
		"half in the environment": {map[string]string{"AWS_ACCESS_KEY_ID": "half"}, nil, "from-default-profile"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.Set(t, test.env)
			token, err := bedrocktoken.ProvideToken(t.Context(), append(test.opts, bedrocktoken.WithRegion(region))...)
			if err != nil {
				t.Fatal(err)
			}
			session := map[string]string{"from-team-profile": "session"}[test.want]
			accept(t, token, region, aws.Credentials{AccessKeyID: test.want, SecretAccessKey: "secret", SessionToken: session})
		})
	}

	failures := map[string]struct{ profile, says string }{
		"profile that is not there": {"nobody", "nobody"},
		"half a profile":            {"half", ""},
		"MFA":                       {"mfa", "MFA"},
		"failing process":           {"process", "process"},
	}
	for name, test := range failures {
		t.Run(name, func(t *testing.T) {
			token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithProfile(test.profile))
			if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
				t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
		})
	}
	// The SDK's error quotes what the process printed.
	t.Run("process that prints nonsense", func(t *testing.T) {
		output := filepath.Join(t.TempDir(), "output")
		for _, printed := range []string{
			"a warning\n" + `{"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
			`{"Version": "1", "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
			`{"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `", "Expiration": "soon"}`,
			`{"Version": 2, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
		} {
			if err := os.WriteFile(output, []byte(printed), 0o600); err != nil {
				t.Fatal(err)
			}
			command := "cat '" + output + "'"
			if runtime.GOOS == "windows" {
				command = "type " + output
			}
			testenv.WriteConfig(t, "[default]\ncredential_process = "+command+"\n")
			_, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region))
			var cause *processcreds.ProviderError
			if !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.As(err, &cause) {
				t.Fatalf("error is %v, want ErrCredentials around the process's", err)
			}
			if strings.Contains(err.Error(), secretKey) || !strings.Contains(err.Error(), "credential_process: ") {
				t.Errorf("error is %v", err)
			}
		}
	})
	t.Run("none at all", func(t *testing.T) {
		testenv.WriteConfig(t, "")
		token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region))
		if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
			t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
		}
	})
}

// With region and credentials given, or a config, settings that would make any
// loading fail do no harm.
func TestNothingIsLoaded(t *testing.T) {
	testenv.Set(t, map[string]string{
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
		"region and credentials":              {bedrocktoken.WithRegion(region), provider},
		"region, credentials and profile":     {bedrocktoken.WithRegion(region), provider, bedrocktoken.WithProfile("nobody")},
		"config":                              {bedrocktoken.WithConfig(aws.Config{Region: region, Credentials: static(accessKeyID, secretKey, "")})},
		"config with region, and credentials": {bedrocktoken.WithConfig(aws.Config{Region: region}), provider},
		"config with credentials, and region": {bedrocktoken.WithConfig(aws.Config{Credentials: static(accessKeyID, secretKey, "")}), bedrocktoken.WithRegion(region)},
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

// Settings are resolved once: what happens to the environment later is nothing
// to a Provider.
func TestResolvedOnce(t *testing.T) {
	testenv.Set(t, map[string]string{"AWS_REGION": region, "AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey})
	provider, err := bedrocktoken.NewProvider(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testenv.Set(t, map[string]string{"AWS_REGION": "later", "AWS_ACCESS_KEY_ID": "later", "AWS_SECRET_ACCESS_KEY": "later"})
	token, err := provider.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accept(t, token, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
}

// The default chain keeps the promises of a raw provider. Its source here is a
// container's credentials endpoint, in real HTTP but the bubble's time.
func TestDefaultChain(t *testing.T) {
	var issue atomic.Pointer[func() (aws.Credentials, error)]
	var calls atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		creds, err := (*issue.Load())()
		if err != nil {
			http.Error(w, `{"code": "OutOfOrder", "message": "the source is out of order"}`, http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": creds.AccessKeyID, "SecretAccessKey": creds.SecretAccessKey, "Token": creds.SessionToken, "Expiration": creds.Expires,
		})
	}))
	server.Config.SetKeepAlivesEnabled(false) // an idle connection would outlive the bubble
	server.Start()
	defer server.Close()
	testenv.Set(t, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, "AWS_REGION": region})

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
		first := authority.issue(time.Hour)
		next(first, nil)
		get(first)
		get(first)
		if n := calls.Load(); n != 1 {
			t.Errorf("%d retrievals for two tokens", n)
		}

		// Renewed ahead of the end, with the true end reported.
		second := authority.issue(2 * time.Hour)
		next(second, nil)
		time.Sleep(time.Until(first.Expires.Add(-time.Minute)))
		get(second)

		// An outage is not seen while the credentials live.
		next(aws.Credentials{}, errOutage)
		time.Sleep(time.Until(second.Expires.Add(-time.Minute)))
		get(second)
		time.Sleep(time.Until(second.Expires.Add(-time.Nanosecond)))
		get(second)
		time.Sleep(time.Nanosecond)
		if _, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || !strings.Contains(err.Error(), "OutOfOrder") {
			t.Errorf("error %v, want ErrCredentials around the endpoint's", err)
		}

		// Seconds are all that there is.
		third := authority.issue(7 * time.Second)
		next(third, nil)
		get(third)
	})
}
