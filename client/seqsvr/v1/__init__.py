"""Generated wire code; see proto/ and make gen."""
