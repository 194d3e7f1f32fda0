package bedrocktoken_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

func TestResolveRegion(t *testing.T) {
	awstest.WriteConfig(t, `
[default]
region = from-default-profile
[profile team]
region = from-team-profile
aws_access_key_id = team
aws_secret_access_key = secret
[profile mfa]
region = from-mfa-profile
role_arn = arn:aws:iam::123456789012:role/x
source_profile = team
mfa_serial = arn:aws:iam::123456789012:mfa/x
`)
	loaded := bedrocktoken.WithConfig(aws.Config{Region: "from-config"})
	tests := map[string]struct {
		env  map[string]string
		opts []bedrocktoken.Option
		want string
	}{
		"default profile":       {nil, nil, "from-default-profile"},
		"AWS_PROFILE":           {map[string]string{"AWS_PROFILE": "team"}, nil, "from-team-profile"},
		"WithProfile":           {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-team-profile"},
		"role is not looked at": {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("mfa")}, "from-mfa-profile"},
		"empty WithProfile":     {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("")}, "from-default-profile"},
		"AWS_DEFAULT_REGION":    {map[string]string{"AWS_DEFAULT_REGION": "from-default"}, nil, "from-default"},
		"AWS_REGION":            {map[string]string{"AWS_DEFAULT_REGION": "from-default", "AWS_REGION": "from-env"}, nil, "from-env"},
		"env before profile":    {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-env"},
		"WithRegion":            {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithRegion("given")}, "given"},
		"empty WithRegion":      {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithRegion("")}, "from-env"},
		"the last counts":       {nil, []bedrocktoken.Option{bedrocktoken.WithRegion("one"), nil, bedrocktoken.WithRegion("two")}, "two"},
		"config":                {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{loaded}, "from-config"},
		"config and region":     {nil, []bedrocktoken.Option{loaded, bedrocktoken.WithRegion("given")}, "given"},
		"region and config":     {nil, []bedrocktoken.Option{bedrocktoken.WithRegion("given"), loaded}, "given"},
		"config, empty region":  {nil, []bedrocktoken.Option{loaded, bedrocktoken.WithRegion("")}, "from-config"},
		"config, no profile":    {nil, []bedrocktoken.Option{loaded, bedrocktoken.WithProfile("")}, "from-config"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
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
		not    string
	}{
		"none":                         {says: []string{"WithRegion", "AWS_REGION", "AWS_DEFAULT_REGION", "profile"}},
		"config without":               {env: map[string]string{"AWS_REGION": "from-env"}, opts: []bedrocktoken.Option{bedrocktoken.WithConfig(aws.Config{})}, says: []string{"WithConfig", "Region", "WithRegion"}, not: "AWS_"},
		"bad AWS_REGION":               {env: map[string]string{"AWS_REGION": "US East"}, says: []string{`"US East"`}},
		"bad region of profile":        {config: "[default]\nregion = us_east_1\n", says: []string{`"us_east_1"`}},
		"profile that is not there":    {env: map[string]string{"AWS_PROFILE": "nobody"}, says: []string{"nobody"}},
		"unreadable AWS_CA_BUNDLE":     {env: map[string]string{"AWS_CA_BUNDLE": "/does/not/exist"}, says: []string{"/does/not/exist"}},
		"AWS_REGION, no such profile":  {env: map[string]string{"AWS_REGION": region, "AWS_PROFILE": "nobody"}, says: []string{"cannot load the AWS config", "nobody"}, not: "invalid region"},
		"AWS_REGION, no AWS_CA_BUNDLE": {env: map[string]string{"AWS_REGION": region, "AWS_CA_BUNDLE": "/does/not/exist"}, says: []string{"cannot load the AWS config", "/does/not/exist"}, not: "invalid region"},
		"good environment, bad option": {env: map[string]string{"AWS_REGION": "us-east-1"}, opts: []bedrocktoken.Option{bedrocktoken.WithRegion("x y")}, says: []string{`"x y"`}},
	}
	for name, test := range failures {
		t.Run(name, func(t *testing.T) {
			awstest.WriteConfig(t, test.config)
			awstest.Set(t, test.env)
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
			if test.not != "" && strings.Contains(err.Error(), test.not) {
				t.Errorf("error %q says %q", err, test.not)
			}
		})
	}
}

func TestResolveCredentials(t *testing.T) {
	awstest.WriteConfig(t, `
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
		"nil option":              {env, []bedrocktoken.Option{nil}, "from-env"},
		"half in the environment": {map[string]string{"AWS_ACCESS_KEY_ID": "half"}, nil, "from-default-profile"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
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
	// A mistake is not another identity.
	var (
		nilPointer *credentials.StaticCredentialsProvider
		nilCache   *aws.CredentialsCache
		nilMap     mapProvider
	)
	for name, provider := range map[string]aws.CredentialsProvider{
		"nil pointer":          nilPointer,
		"nil cache":            nilCache,
		"nil func":             aws.CredentialsProviderFunc(nil),
		"nil map":              nilMap,
		"empty cache":          new(aws.CredentialsCache),
		"cache around nothing": aws.NewCredentialsCache(nil),
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, env)
			for how, opts := range map[string][]bedrocktoken.Option{
				"given":              {bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(provider)},
				"given without more": {bedrocktoken.WithCredentialsProvider(provider)},
				"given, and config":  {loaded, bedrocktoken.WithCredentialsProvider(provider)},
				"in config":          {bedrocktoken.WithConfig(aws.Config{Region: region, Credentials: provider})},
			} {
				made, err := bedrocktoken.NewProvider(t.Context(), opts...)
				if !errors.Is(err, bedrocktoken.ErrCredentials) || made != nil {
					t.Errorf("%s: got %v and error %v, want ErrCredentials", how, made, err)
				}
			}
		})
	}
	t.Run("none at all", func(t *testing.T) {
		awstest.WriteConfig(t, "")
		token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region))
		if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
			t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
		}
	})
}

type mapProvider map[string]string

func (mapProvider) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("called")
}

// With region and credentials given, or a config, settings that would make any
// loading fail do no harm.
func TestNothingIsLoaded(t *testing.T) {
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
