package bedrocktoken_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// The tokens are those of the official generators: they have the same parameters
// and, without a session token, the same bytes as Python's.
func TestTokensAreTheOfficialOnes(t *testing.T) {
	data, err := os.ReadFile("testdata/official_tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var official []struct {
		AccessKeyID     string    `json:"access_key_id"`
		SecretAccessKey string    `json:"secret_access_key"`
		SessionToken    string    `json:"session_token"`
		Region          string    `json:"region"`
		ExpirySeconds   int       `json:"expiry_seconds"`
		SigningTime     time.Time `json:"signing_time"`
		Python          string    `json:"python"`
		JavaScript      string    `json:"javascript"`
	}
	if err := json.Unmarshal(data, &official); err != nil || len(official) == 0 {
		t.Fatalf("%d tokens, error %v", len(official), err)
	}
	for _, o := range official {
		t.Run(o.AccessKeyID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sleepUntil(o.SigningTime)
				creds := aws.Credentials{AccessKeyID: o.AccessKeyID, SecretAccessKey: o.SecretAccessKey, SessionToken: o.SessionToken}
				got, err := bedrocktoken.ProvideToken(t.Context(),
					bedrocktoken.WithRegion(o.Region),
					bedrocktoken.WithCredentialsProvider(static(o.AccessKeyID, o.SecretAccessKey, o.SessionToken)),
					bedrocktoken.WithExpiry(time.Duration(o.ExpirySeconds)*time.Second))
				if err != nil {
					t.Fatal(err)
				}
				target, query, _ := verify.Decode(got)
				for generator, token := range map[string]string{"ours": got, "Python's": o.Python, "JavaScript's": o.JavaScript} {
					signedBy(t, token, o.Region, creds)
					if theirTarget, theirs, err := verify.Decode(token); err != nil || theirTarget != target || !reflect.DeepEqual(theirs, query) {
						t.Errorf("ours has %s and %v, %s %s and %v; error %v", target, query, generator, theirTarget, theirs, err)
					}
				}
				if o.SessionToken == "" && got != o.Python {
					t.Errorf("got  %s\nwant %s", got, o.Python)
				}
			})
		})
	}
}

// A Provider signs at most once a second. In between the token is the same and its
// call allocates nothing, unless the credentials change.
func TestOneSignatureASecond(t *testing.T) {
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}
	for kind, source := range sources(creds) {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				provider, ctx := newProvider(t, source), t.Context()
				sleepUntil(time.Date(2031, time.December, 31, 23, 59, 58, 0, time.UTC)) // the date is signed, too
				for range 4 {
					token := tokenOf(t, provider)
					if signed := signedBy(t, token, region, creds).SigningTime; !signed.Equal(time.Now()) {
						t.Errorf("signed at %v, want %v", signed, time.Now())
					}
					time.Sleep(time.Second - time.Nanosecond)
					if tokenOf(t, provider) != token {
						t.Error("another token within the second")
					}
					if n := testing.AllocsPerRun(100, func() { provider.Token(ctx) }); n != 0 {
						t.Errorf("%v allocations", n)
					}
					time.Sleep(time.Nanosecond)
				}
			})
		})
	}
	t.Run("the credentials change", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start, n := time.Now(), 0
			steps := []aws.Credentials{
				{AccessKeyID: accessKeyID, SecretAccessKey: "one"},
				{AccessKeyID: "AKIAOTHER", SecretAccessKey: "one"},
				{AccessKeyID: "AKIAOTHER", SecretAccessKey: "two"},
				{AccessKeyID: "AKIAOTHER", SecretAccessKey: "two", SessionToken: "session"},
				{AccessKeyID: "AKIAOTHER", SecretAccessKey: "two", SessionToken: "session"}, // that expire later
			}
			provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				creds := steps[n]
				n++
				creds.CanExpire, creds.Expires = true, start.Add(time.Duration(n)*time.Hour)
				return creds, nil
			}))
			for i, creds := range steps {
				tokenOf(t, provider) // at which a renewal begins
				synctest.Wait()
				token, err := provider.RetrieveBearerToken(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				signedBy(t, token.Value, region, creds)
				expires := start.Add(time.Duration(i+1) * time.Hour)
				if !token.Expires.Equal(expires) {
					t.Errorf("expires at %v, want %v", token.Expires, expires)
				}
				sleepUntil(expires.Add(-15 * time.Minute))
			}
		})
	})
}

// Credentials with any characters that keys can have sign a token that is accepted.
// Those that are incomplete, malformed or expired are ErrCredentials, in words that
// show no secret and send nobody to sign in.
func TestCredentialsAreChecked(t *testing.T) {
	const (
		signIn      = "failed to refresh cached credentials" // by which programs know a missing sign-in
		punctuation = `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~`
	)
	good := map[string]aws.Credentials{
		"long-term":        longTerm,
		"temporary":        {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken},
		"slash":            {AccessKeyID: accessKeyID, SecretAccessKey: "////////////////////////////////////////"},
		"plus":             {AccessKeyID: accessKeyID, SecretAccessKey: "++++++++++++++++++++++++++++++++++++++++"},
		"equals":           {AccessKeyID: accessKeyID, SecretAccessKey: "========================================"},
		"punctuation":      {AccessKeyID: "a/b&c=d?e#f%20", SecretAccessKey: punctuation, SessionToken: punctuation},
		"quotes and $":     {AccessKeyID: `a"b$c`, SecretAccessKey: "a'b$", SessionToken: "a`b$"},
		"base64 with plus": {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: "~~~~"}, // the only unreserved character that makes it
		"emulator":         {AccessKeyID: "test", SecretAccessKey: "test"},
		"not expired yet":  {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now().Add(time.Minute)},
		"no expiry":        {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, Expires: time.Now().Add(-time.Minute)},
	}
	for n := 16; n <= 4000; n += 83 {
		good["session token of "+strconv.Itoa(n)] = aws.Credentials{
			AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: strings.Repeat("a/b+c=", n/6+1)[:n],
		}
	}
	for name, creds := range good {
		t.Run(name, func(t *testing.T) {
			for _, source := range sources(creds) {
				signedBy(t, tokenOf(t, newProvider(t, source)), region, creds)
			}
		})
	}

	for name, test := range map[string]struct{ id, secret, session, says string }{
		"none":                     {"", "", "", "the access key ID is missing"},
		"session token alone":      {"", "", sessionToken, "the access key ID is missing"},
		"no secret":                {accessKeyID, "", "", "the secret access key is missing"},
		"no id":                    {"", secretKey, "", "the access key ID is missing"},
		"temporary, no token":      {"ASIAIOSFODNN7EXAMPLE", secretKey, "", "session token is missing"},
		"line break after id":      {accessKeyID + "\n", secretKey, "", "access key ID contains"},
		"line break after secret":  {accessKeyID, secretKey + "\n", "", "secret access key contains"},
		"line break after session": {accessKeyID, secretKey, sessionToken + "\r\n", "session token contains"},
		"space":                    {accessKeyID, secretKey, sessionToken + " ", "session token contains"},
		"blank secret":             {accessKeyID, " ", "", "secret access key contains"},
		"DEL":                      {accessKeyID, secretKey + "\x7f", "", "secret access key contains"},
		"NUL":                      {accessKeyID, "\x00", "", "secret access key contains"},
		"not ASCII":                {"AKIÀ", secretKey, "", "access key ID contains"},
		"swapped":                  {secretKey, accessKeyID, "", "seem to be swapped"},
		"quotes around the id":     {`"` + accessKeyID + `"`, secretKey, "", "access key ID has quotes"},
		"quotes around the secret": {accessKeyID, "'" + secretKey + "'", "", "secret access key has quotes"},
		"quotes around the token":  {accessKeyID, secretKey, "`" + sessionToken + "`", "session token has quotes"},
		"half of the quotes":       {accessKeyID, secretKey + `"`, "", "secret access key has quotes"},
		"variable for the id":      {"${AWS_ACCESS_KEY_ID}", secretKey, "", "begins with $"},
		"variable for the secret":  {accessKeyID, "$AWS_SECRET_ACCESS_KEY", "", "begins with $"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, life := range []time.Duration{0, time.Hour} {
				creds := aws.Credentials{AccessKeyID: test.id, SecretAccessKey: test.secret, SessionToken: test.session, CanExpire: life > 0, Expires: time.Now().Add(life)}
				for kind, source := range sources(creds) {
					err := errorOf(t, newProvider(t, source))
					if kind == "static" && !creds.HasKeys() {
						continue // the SDK checks them itself
					}
					if !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), signIn) || errors.Is(err, bedrocktoken.ErrOutage) {
						t.Errorf("%s: error %q, want one that says %q and not %q", kind, err, test.says, signIn)
					}
					for _, secret := range []string{test.secret, test.session} {
						if len(secret) > 1 && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
							t.Errorf("%s: the error shows a secret: %#v", kind, err)
						}
					}
				}
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		expired := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now().Add(-time.Nanosecond)}
		ofRole, zero := expired, expired
		ofRole.Source, zero.Expires = stscreds.ProviderName, time.Time{}
		for _, creds := range []aws.Credentials{expired, ofRole, zero} {
			for _, kind := range []string{"static", "raw"} {
				err := errorOf(t, newProvider(t, sources(creds)[kind]))
				outage := creds.Source != "" // STS is out of order
				if errors.Is(err, bedrocktoken.ErrOutage) != outage || !strings.Contains(err.Error(), "expired at "+creds.Expires.UTC().Format(time.RFC3339)) {
					t.Errorf("%s: error is %v", kind, err)
				}
			}
		}
	})
}

// Whatever the input, there is a token that is accepted or an error of a known kind.
func FuzzProvideToken(f *testing.F) {
	f.Add(region, accessKeyID, secretKey, "", int64(time.Hour))
	f.Add("eu-central-2", accessKeyID, secretKey, sessionToken, int64(12*time.Hour))
	f.Add("us-east-1\n", "a/b", "=", "&", int64(-1))
	f.Add("", "", "", "", int64(0))
	f.Fuzz(func(t *testing.T, region, accessKeyID, secretKey, sessionToken string, expiry int64) {
		token, err := bedrocktoken.ProvideToken(t.Context(),
			bedrocktoken.WithRegion(region),
			bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, sessionToken)),
			bedrocktoken.WithExpiry(time.Duration(expiry)))
		if err != nil {
			kinds := []error{bedrocktoken.ErrRegion, bedrocktoken.ErrCredentials, bedrocktoken.ErrExpiry}
			if known := cmp.Or(errors.Is(err, kinds[0]), errors.Is(err, kinds[1]), errors.Is(err, kinds[2])); !known || token != "" {
				t.Errorf("got %q and error %v", token, err)
			}
			return
		}
		verified := signedBy(t, token, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken})
		if verified.Expiry != time.Duration(expiry).Truncate(time.Second) {
			t.Errorf("signed for %v, want %v", verified.Expiry, time.Duration(expiry))
		}
	})
}
