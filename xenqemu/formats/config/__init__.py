"""What a domain is made from: libxl's JSON, and xl.cfg, from which it comes."""
