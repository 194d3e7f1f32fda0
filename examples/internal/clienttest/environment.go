package clienttest

import (
	"testing"

	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// Isolate hides the home directory and every variable that a client might read,
// those that name a proxy among them, until the test ends.
func Isolate(t *testing.T) {
	t.Helper()
	t.Cleanup(awstest.Isolate(t.TempDir(), "AWS_", "OPENAI_", "ANTHROPIC_", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"))
}

// hostileEnvironment sets all that a client might prefer to what it was given.
// Each value that could be sent contains the string that it returns.
func hostileEnvironment(t *testing.T) (stale string) {
	t.Helper()
	const nowhere = "https://stale.invalid"
	awstest.WriteConfig(t, `[profile stale]
region = eu-west-3
aws_access_key_id = AKIASTALEPROFILE
aws_secret_access_key = stale
endpoint_url = `+nowhere+`
`)
	awstest.Set(t, map[string]string{
		"AWS_BEARER_TOKEN_BEDROCK":          "stale",
		"AWS_ACCESS_KEY_ID":                 "AKIAstale",
		"AWS_SECRET_ACCESS_KEY":             "stale",
		"AWS_SESSION_TOKEN":                 "stale",
		"AWS_PROFILE":                       "stale",
		"AWS_REGION":                        "eu-west-3",
		"AWS_DEFAULT_REGION":                "eu-west-3",
		"AWS_AUTH_SCHEME_PREFERENCE":        "sigv4",
		"AWS_ENDPOINT_URL":                  nowhere,
		"AWS_ENDPOINT_URL_BEDROCK_RUNTIME":  nowhere,
		"AWS_ENDPOINT_URL_STS":              nowhere,
		"AWS_BEDROCK_BASE_URL":              nowhere,
		"OPENAI_API_KEY":                    "stale",
		"OPENAI_ADMIN_KEY":                  "stale",
		"OPENAI_BASE_URL":                   nowhere,
		"OPENAI_CUSTOM_HEADERS":             "Authorization: Bearer stale",
		"ANTHROPIC_API_KEY":                 "stale",
		"ANTHROPIC_AUTH_TOKEN":              "stale",
		"ANTHROPIC_PROFILE":                 "stale",
		"ANTHROPIC_AWS_API_KEY":             "stale",
		"ANTHROPIC_BASE_URL":                nowhere,
		"ANTHROPIC_BEDROCK_BASE_URL":        nowhere,
		"ANTHROPIC_BEDROCK_MANTLE_BASE_URL": nowhere,
		"ANTHROPIC_CUSTOM_HEADERS":          "Authorization: Bearer stale",
	})
	return "stale"
}
